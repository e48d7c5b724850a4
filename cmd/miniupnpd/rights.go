package main

import (
	"context"
	"fmt"
	"log/slog"

	"igdd/pkg/config"
	"igdd/pkg/sandbox"
)

// rights are root's privileges: the process drops those that it does not need, and
// its helper keeps them.
type rights struct {
	args   []string // of the daemon
	log    *slog.Logger
	helper *privileged // nil: the process keeps its privileges
}

// prepare starts the helper, if the settings demand the sandbox.
func (r *rights) prepare(c *config.Config) (err error) {
	if !c.Sandbox {
		return nil
	}
	r.helper, err = startHelper(c.NotifyCmd, r.args)
	return err
}

// drop drops the privileges that the daemon does not need. The firewall must have been
// read before: that may load kernel modules.
func (r *rights) drop(c *config.Config) error {
	if !c.Sandbox {
		return nil
	}
	filtered, err := sandbox.Enter()
	if err != nil {
		return fmt.Errorf("%w; set UPNP_SANDBOX=no (sandbox=no) to run without the sandbox", err)
	}
	r.log.Debug("dropped privileges", "seccomp", filtered)
	return nil
}

// parse returns the present settings.
func (r *rights) parse() (*config.Config, error) {
	if r.helper == nil {
		return config.Parse(r.args)
	}
	return r.helper.parse()
}

// notify returns the function that runs the notification program; nil: the usual one.
func (r *rights) notify() func(context.Context, string, []string) error {
	if r.helper == nil {
		return nil
	}
	return r.helper.notify
}
