package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/config"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/console"
	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/internal/natsconn"
	"github.com/acsbridge/acsbridge/replay"
)

// consoleCmd serves the console without a bridge.
type consoleCmd struct {
	ConsoleTokenFile string `help:"File with the token of the console. It can be left out while --admin-listen is a loopback address and has no token." placeholder:"FILE"`
	ConsoleWrite     bool   `help:"Let the console send quarantined callbacks and dead letters again, and remove them, after a confirmation. Needs --console-token-file, and a login that may."`
	ShowPII          bool   `name:"show-pii" help:"Let the console show personal data of a call or an event, after a click that is logged. Needs --console-token-file."`
	consoleService

	token string
}

// consoleService has [config.Service] under a name of its own, as kong needs it.
type consoleService struct{ config.Service }

// Help is the text between the summary and the flags of console --help.
func (consoleCmd) Help() string {
	return `The calls of a stream in a browser: lists with filters, the timeline of a call, events with what consumes ` +
		`them. It reads with the rights of a viewer. A bridge has the same pages at its own --admin-listen, ` +
		`with those about the bridge. See docs/console.md.`
}

// Validate checks the flags and reads the token; kong calls it.
func (c *consoleCmd) Validate() (err error) {
	c.token, err = c.CheckConsole(c.ConsoleTokenFile, c.ConsoleWrite, c.ShowPII)
	return err
}

// Run serves until ctx ends.
func (c *consoleCmd) Run(ctx context.Context, std stdio) error {
	logger := view.NewLogger(std.err, c.LogFormat, c.LogLevel)
	listener, err := net.Listen("tcp", c.AdminListen)
	if err != nil {
		return fmt.Errorf("listen for operators: %w; another --admin-listen?", err)
	}
	defer listener.Close()
	link, err := c.Connect(std.err, logger)
	if err != nil {
		return err
	}
	defer link.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), bridge.BuildInfo(thisBuild().Version))
	pages := console.New(console.Options{
		Reader: &replay.Reader{JetStream: link.JetStream, Stream: c.Stream, Prefix: c.SubjectPrefix},
		Token:  c.token, ShowPII: c.ShowPII, Write: c.ConsoleWrite, Decode: ingest.Decode, Logger: logger,
	})
	admin := (&bridge.Admin{
		Listen: c.AdminListen, Hosts: c.AdminHost, Token: c.AdminToken(), Registry: registry, Logger: logger, Console: pages,
		Ready: func(w http.ResponseWriter, _ bool) { consoleReady(w, link) },
	}).Server()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		if err := admin.Serve(bridge.LimitAdmin(listener)); !errors.Is(err, http.ErrServerClosed) {
			end(fmt.Errorf("listen for operators: %w", err))
		}
	}()
	defer admin.Close()
	fmt.Fprintf(std.out, "console  http://%s/\n", listener.Addr())
	pages.Run(ctx)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// consoleReady answers whether the stream can be read.
func consoleReady(w http.ResponseWriter, link *natsconn.Link) {
	if connected, _ := link.State(); !connected {
		http.Error(w, "nats missing", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "nats ok")
}
