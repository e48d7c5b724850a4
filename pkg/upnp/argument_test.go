package upnp

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// defaults are the values that stand for arguments that are missing or empty.
var defaults = map[string]string{
	"NewRemoteHost": "", "NewEnabled": "1", "NewPortMappingDescription": "", "NewLeaseDuration": "0",
}

// written is an argument as a client writes it, perhaps several times.
type written struct {
	name  string
	texts []string
}

func words(arguments []written) string {
	var b []byte
	for _, a := range arguments {
		for _, text := range a.texts {
			b = appendElement(b, a.name, text)
		}
	}
	return string(b)
}

// strict returns what the same client would have to write for a reader that
// wants every argument once, and none empty that has a default; false if it
// says two things, or not all that is needed.
func strict(arguments []written) (list []written, ok bool) {
	for _, a := range arguments {
		fallback, optional := defaults[a.name]
		texts := slices.Clone(a.texts)
		for i, text := range texts {
			if optional && text == "" {
				texts[i] = fallback
			}
		}
		if len(texts) == 0 && optional {
			texts = []string{fallback}
		}
		slices.Sort(texts)
		if texts = slices.Compact(texts); len(texts) != 1 {
			return nil, false
		}
		list = append(list, written{a.name, texts})
	}
	return list, true
}

// asWritten returns the arguments of an action, each so often as the octets of
// shape say, with values in their order: plain ones, none, and some that are
// wrong or hostile.
func asWritten(action *Action, shape []byte) (list []written) {
	plain := map[string]string{
		"NewRemoteHost": "45.67.89.1", "NewExternalPort": "4000", "NewProtocol": "TCP", "NewInternalPort": "4001",
		"NewInternalClient": "192.168.1.2", "NewEnabled": "0", "NewPortMappingDescription": "a game", "NewLeaseDuration": "3600",
		"NewStartPort": "4000", "NewEndPort": "4001", "NewManage": "1", "NewNumberOfPorts": "7",
	}
	for i, argument := range action.In {
		a := written{name: argument.Name}
		var octet byte = 1
		if i < len(shape) {
			octet = shape[i]
		}
		for range octet & 3 {
			octet >>= 2
			a.texts = append(a.texts, []string{plain[a.name], "", "0", "65536"}[octet&3])
		}
		list = append(list, a)
	}
	return list
}

// demandSame demands that a request is read as the strict one, or refused.
func demandSame(t *testing.T, version Version, action string, arguments []written) {
	t.Helper()
	parse := func(version Version, list []written) (*Call, error) {
		asked := wanIPConnection.Type(version)
		return wanIPConnection.ParseCall(asked+"#"+action, []byte(envelope(asked, action, words(list))), V2)
	}
	got, err := parse(version, arguments)
	plainly, ok := strict(arguments)
	if !ok {
		if fault := Fault(0); !errors.As(err, &fault) {
			t.Errorf("%s: %q is taken for %+v, %v", action, arguments, got, err)
		}
		return
	}
	if wanIPConnection.action(action, version) == nil {
		version = V2
	}
	want, wantErr := parse(version, plainly)
	if err != wantErr {
		t.Errorf("%s: %q: %v, want %v as for %q", action, arguments, err, wantErr, plainly)
	}
	if err == nil && (got.Version != want.Version || !slices.Equal(got.values, want.values)) {
		t.Errorf("%s: %q is %+v, want %+v", action, arguments, got, want)
	}
}

// TestOmittedArguments leaves out, empties and doubles each argument of each
// action on port mappings.
func TestOmittedArguments(t *testing.T) {
	for i := range wanIPConnection.Actions {
		action := &wanIPConnection.Actions[i]
		for n := range action.In {
			for _, octet := range []byte{0, 1, 0b0101, 0b0111, 0b000010, 0b010110, 0b100110, 0b001010, 0b01010111} {
				shape := slices.Repeat([]byte{1}, len(action.In))
				shape[n] = octet
				for _, version := range []Version{V1, V2} {
					demandSame(t, version, action.Name, asWritten(action, shape))
				}
			}
		}
	}
}

// TestLeastArguments reads requests that say no more than they must.
func TestLeastArguments(t *testing.T) {
	least := "<NewExternalPort>4000</NewExternalPort><NewProtocol>TCP</NewProtocol><NewInternalPort>4000</NewInternalPort>" +
		"<NewInternalClient>192.168.1.2</NewInternalClient>"
	empty := "<NewRemoteHost/><NewEnabled></NewEnabled><NewPortMappingDescription> \n</NewPortMappingDescription><NewLeaseDuration>\t</NewLeaseDuration>"
	for _, action := range []string{"AddPortMapping", "AddAnyPortMapping"} {
		for _, arguments := range []string{least, least + empty, empty + least + empty} {
			c, err := wanIPConnection.ParseCall(wanip+"1#"+action, []byte(envelope(wanip+"1", action, arguments)), V2)
			if err != nil {
				t.Errorf("%s %s: %v", action, arguments, err)
				continue
			}
			if !c.Flag("NewEnabled") || c.Number("NewLeaseDuration") != 0 || c.Text("NewRemoteHost") != "" ||
				c.Text("NewPortMappingDescription") != "" || c.Port("NewExternalPort") != 4000 {
				t.Errorf("%s %s: %+v", action, arguments, c)
			}
		}
		for _, needed := range []string{"NewExternalPort", "NewProtocol", "NewInternalPort", "NewInternalClient"} {
			arguments := strings.Replace(least, "<"+needed+">", "<Not"+needed+">", 1)
			arguments = strings.Replace(arguments, "</"+needed+">", "</Not"+needed+">", 1)
			if _, err := wanIPConnection.ParseCall(wanip+"2#"+action, []byte(envelope(wanip+"2", action, arguments)), V2); err != InvalidArgs {
				t.Errorf("%s without %s: %v", action, needed, err)
			}
		}
	}
}

// TestSameValueTwice reads values that stand twice, in the same words or not.
func TestSameValueTwice(t *testing.T) {
	for _, tt := range []struct {
		first, second string
		want          error
	}{
		{"<NewExternalPort>4000</NewExternalPort>", "<NewExternalPort> 4000 </NewExternalPort>", nil},
		{"<NewProtocol>TCP</NewProtocol>", "<u:NewProtocol>tcp</u:NewProtocol>", nil},
		{"<NewEnabled>1</NewEnabled>", "<NewEnabled>true</NewEnabled>", nil},
		{"<NewEnabled>1</NewEnabled>", "<NewEnabled/>", nil},
		{"<NewEnabled>0</NewEnabled>", "<NewEnabled/>", InvalidArgs},
		{"<NewExternalPort>4000</NewExternalPort>", "<NewExternalPort>4001</NewExternalPort>", InvalidArgs},
		{"<NewExternalPort>4000</NewExternalPort>", "<NewExternalPort>69536</NewExternalPort>", InvalidArgs},
		{"<NewExternalPort>4000</NewExternalPort>", "<NewExternalPort></NewExternalPort>", InvalidArgs},
		{"<NewProtocol>TCP</NewProtocol>", "<NewProtocol>UDP</NewProtocol>", InvalidArgs},
		{"<NewProtocol>TCP</NewProtocol>", "<NewProtocol>SCTP</NewProtocol>", InvalidArgs},
		{"<NewRemoteHost></NewRemoteHost>", "<NewRemoteHost>45.67.89.1</NewRemoteHost>", InvalidArgs},
		{"<NewRemoteHost>0.0.0.0</NewRemoteHost>", "<NewRemoteHost>45.67.89.1</NewRemoteHost>", InvalidArgs},
		{"<NewRemoteHost>0.0.0.0</NewRemoteHost>", "<NewRemoteHost> * </NewRemoteHost>", nil},
		{"<NewInternalClient>192.168.1.2</NewInternalClient>", "<NewInternalClient>\n192.168.1.2\n</NewInternalClient>", nil},
		{"<NewPortMappingDescription>a game</NewPortMappingDescription>", "<NewPortMappingDescription> a game </NewPortMappingDescription>", nil},
		{"<NewInternalClient>192.168.1.2</NewInternalClient>", "<NewInternalClient>192.168.1.3</NewInternalClient>", InvalidArgs},
		{"<NewInternalClient>192.168.1.2</NewInternalClient>", "<NewInternalClient><b/></NewInternalClient>", InvalidArgs},
		{"<NewLeaseDuration>3600</NewLeaseDuration>", "<NewLeaseDuration/>", InvalidArgs},
	} {
		for _, twice := range []string{tt.first + tt.second, tt.second + tt.first, tt.first + tt.second + tt.first} {
			name, _, _ := strings.Cut(tt.first[1:], ">")
			rest := strings.Replace(full, "<"+name+">", "<Not"+name+">", 1)
			rest = strings.Replace(rest, "</"+name+">", "</Not"+name+">", 1)
			body := envelope(wanip+"2", "AddPortMapping", twice+rest)
			if c, err := wanIPConnection.ParseCall(wanip+"2#AddPortMapping", []byte(body), V2); err != tt.want {
				t.Errorf("%s: %+v, %v, want %v", twice, c, err, tt.want)
			}
		}
	}
}

// FuzzArguments compares the reading of arguments that are missing, empty or
// doubled with the strict one.
func FuzzArguments(f *testing.F) {
	f.Add(byte(8), byte(1), []byte{0, 1, 1, 1, 1, 0, 5, 0})
	f.Add(byte(8), byte(0), []byte{2, 0b010110, 0b000010, 1, 0b001010, 5, 5, 5})
	f.Add(byte(13), byte(0), []byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, n, version byte, shape []byte) {
		action := &wanIPConnection.Actions[int(n)%len(wanIPConnection.Actions)]
		demandSame(t, V1+Version(version%2), action.Name, asWritten(action, shape))
	})
}
