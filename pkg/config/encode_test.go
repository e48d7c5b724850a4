package config

import (
	"encoding/json"
	"reflect"
	"testing"
)

// TestEncoding demands that a configuration is the same in another process.
func TestEncoding(t *testing.T) {
	for _, text := range []string{
		minimal,
		minimal + "ext_ports=none\n",
		minimal + "nonsense\nlistening_ip=192.168.7.1/255.255.255.128\next_ifname2=ppp+\next_ip=11.22.33.44\nnotify_cmd=/bin/a b\nwithdraw_after=60\next_ports=1-2 63-65535\nlan_route=10.1.0.0/16 via lan0\n" +
			"allow 1-2 10.0.0.0/255.0.255.0 3 \"a \\\"b\\\"\"\nallow 1024-65535 aa:bb:cc:dd:ee:ff 1024-65535\n" +
			"allow 1024-65535 2001:db8::/64 1024-65535\nallow nonsense\ndeny 0-65535 0.0.0.0/0 0-65535\n",
	} {
		c, err := testMachine(t).parse([]string{"-f", write(t, "f", text)})
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again := new(Config)
		if err := json.Unmarshal(encoded, again); err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%v:\n%#v\nbecomes\n%#v\nby %s", err, c, again, encoded)
		}
	}
}
