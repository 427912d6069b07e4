package config

import (
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/journal"
)

// Drain is the configuration of drain: what it shares with serve, under the same names,
// variables and keys of the file. The other settings of serve have no effect on it.
type Drain struct {
	Config string `help:"YAML file of serve, for its data directory, its NATS settings and its stream; also ACSBRIDGE_CONFIG." placeholder:"FILE"`

	DataDir        string `help:"Data directory of a bridge that does not run." default:"acsbridge-data" placeholder:"DIR"`
	natsSettings   `group:"NATS flags:" set:"withoutURL=an error; with an embedded server, start serve instead."`
	streamSettings `group:"Stream (JetStream):"`

	sources *sources
}

// drainSources are the sources of serve, for the settings of [Drain].
type drainSources struct{ *sources }

// Resolve returns the value of a setting of serve that is not on the command line.
func (s drainSources) Resolve(ctx *kong.Context, path *kong.Path, flag *kong.Flag) (any, error) {
	if flag.Name != "data-dir" && !shared(flag.Name) && !strings.HasPrefix(flag.Name, "stream-") {
		return nil, nil
	}
	return s.sources.Resolve(ctx, path, flag)
}

// BeforeResolve makes kong ask the environment and the file of serve.
func (d *Drain) BeforeResolve(ctx *kong.Context) error {
	d.Config = configFile(ctx)
	d.sources = newSources(os.Environ(), Flags(), d.Config)
	ctx.AddResolver(drainSources{d.sources})
	return nil
}

// AfterApply rejects settings with problems, naming all of them.
func (d *Drain) AfterApply() error {
	s := &Settings{natsSettings: d.natsSettings, streamSettings: d.streamSettings, sources: d.sources, found: d.sources.problems}
	s.checkServers()
	s.checkLogin(&s.NatsLogin, bridgeNATS)
	if s.EmbeddedNATS() {
		s.reject("nats-url", "is missing, and nats-context too; start serve instead when the bridge has an embedded server")
	}
	s.amount("stream-replicas", s.StreamReplicas, 1, publish.MaxReplicas)
	s.report(d.Publish().Check())
	if len(s.found) > 0 {
		return Error(s.found)
	}
	d.natsSettings = s.natsSettings // with the secrets that were read
	return nil
}

// Publish is the configuration of the publisher.
func (d *Drain) Publish() publish.Options {
	return publish.Options{
		Stream: d.streamSettings.config(), Dir: d.DataDir, Journal: journal.Options{MaxBytes: journal.DefaultMaxBytes},
	}
}
