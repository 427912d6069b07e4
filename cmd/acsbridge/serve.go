package main

import (
	"context"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
)

// serveCmd is the worker. Its settings are checked before Run is called.
type serveCmd struct{ config.Settings }

// Help is the text between the summary and the flags of serve --help.
func (serveCmd) Help() string {
	return `Every setting is a flag, a variable ACSBRIDGE_<NAME> (--ack-wait is ACSBRIDGE_ACK_WAIT), ` +
		`and a key of the YAML file that --config names (ack-wait: 100ms). Passwords and tokens are not flags. ` +
		`A flag wins over a variable, a variable over the file. ` +
		`The nats-* settings also know the variables of the nats command, such as NATS_URL.`
}

// Run serves until ctx ends.
func (c *serveCmd) Run(ctx context.Context, std stdio) error {
	bridge.TuneGC()
	b, err := bridge.New(&c.Settings, thisBuild().Version, view.NewLogger(std.err, c.LogFormat, c.LogLevel))
	if err != nil {
		return err
	}
	return b.Run(ctx)
}
