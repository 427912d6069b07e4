package main

import (
	"context"
	"path/filepath"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/running"
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
	logger := view.NewLogger(std.err, c.LogFormat, c.LogLevel)
	b, err := bridge.New(&c.Settings, thisBuild().Version, logger)
	if err != nil {
		return err
	}
	if c.EmbeddedNATS() { // another NATS is where the settings say
		remove, err := running.Publish(stateOf(b, &c.Settings, "serve"))
		if err != nil {
			logger.Debug("commands without connection flags do not find this bridge", "error", err)
		} else {
			defer remove()
		}
	}
	return b.Run(ctx)
}

// stateOf says where the parts of a bridge with an embedded server are.
func stateOf(b *bridge.Bridge, s *config.Settings, command string) running.State {
	dir, _ := filepath.Abs(s.DataDir) // which fails with the directory of the process alone
	return running.State{
		Command: command, CallbackURL: b.CallbackURL(), EventGridURL: b.EventGridURL(), AdminURL: b.AdminURL(), DataDir: dir,
		NatsURL: b.EmbeddedURL(), Stream: s.Stream, SubjectPrefix: s.SubjectPrefix,
	}
}
