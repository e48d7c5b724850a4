package config

import "slices"

// PIDFile returns the path of the pid file when Parse fails, from what is valid
// in the arguments and in the file that they name. It is empty if they only
// check the settings.
func PIDFile(args []string, dir string) string {
	d := newDraft(thisMachine(dir))
	flags, err := split(args)
	if err != nil {
		for i := range args {
			if named(args[i:]).check {
				return ""
			}
		}
		if i := slices.Index(args, "-P"); i >= 0 && i+1 < len(args) {
			flags = []flag{{name: "-P", words: args[i+1 : i+2]}}
		}
	}
	for _, f := range flags {
		if f.name == "-f" {
			d.readConf(d.machine.absolute(f.words[0])) // an rc.conf cannot set the pid file
		}
	}
	for _, f := range flags {
		o, _ := f.option()
		o.do(d, f)
	}
	if d.Check {
		return ""
	}
	return d.PIDFile
}
