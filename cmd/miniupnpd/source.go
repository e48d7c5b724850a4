package main

import (
	"cmp"
	"os"

	"igdd/pkg/config"
)

// source is where the settings of the process come from, and are read from again.
type source struct {
	args []string // of the command line
	dir  string   // where relative paths start: the working directory at the start
}

// sourceOf returns the source of a process that has just been started. If its working
// directory has been removed, relative paths start at the root.
func sourceOf(args []string) source {
	dir, _ := os.Getwd()
	return source{args, cmp.Or(dir, "/")}
}

// parse returns the present settings.
func (s source) parse() (*config.Config, error) { return config.Parse(s.args, s.dir) }

// pidFile returns the path of the pid file if the settings cannot be used; "": there is
// none.
func (s source) pidFile() string { return config.PIDFile(s.args, s.dir) }
