// Command go is a service on package consume: it asks callers for a key, and puts them
// through or tells the opening hours. ivr.go is the service, acs.go its client of ACS.
//
//	acsbridge demo
//	go run ./examples/go
//
// It prints then what it would ask of ACS. With ACS_CONNECTION_STRING it asks that; give the
// agent in AGENT, and where the prompts (menu.wav, opening-hours.wav) are in PROMPTS.
// Any number of replicas share the calls.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/consume"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run handles events until ctx ends.
func run(ctx context.Context, out io.Writer) error {
	v, err := newIVR(out)
	if err != nil {
		return err
	}
	url := cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL)
	nc, err := nats.Connect(url, nats.Name("ivr"), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("connect to %s (NATS_URL names another server): %w", url, err)
	}
	defer nc.Close()
	return consume.Run(ctx, nc, v.service())
}

// newIVR returns the service as the environment sets it.
func newIVR(out io.Writer) (*ivr, error) {
	v := &ivr{
		acs: printer{out}, wait: 20 * time.Second, agent: cmp.Or(os.Getenv("AGENT"), "4:+15550100"),
		prompt: func(name string) string { return os.Getenv("PROMPTS") + "/" + name + ".wav" },
	}
	connection := os.Getenv("ACS_CONNECTION_STRING")
	if connection == "" {
		return v, nil
	}
	acs, err := newClient(connection)
	if err != nil {
		return nil, err
	}
	v.acs = acs
	return v, nil
}
