package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
)

// triggerCmd sends one signed event. The bridge must trust the key, which a
// running simulate or demo shares as a file.
type triggerCmd struct {
	Type string `arg:"" help:"Event type, such as CallConnected. An unknown one lists them." placeholder:"TYPE"`

	Target          string `help:"Callback URL of the bridge." default:"http://127.0.0.1:8080/callbacks" placeholder:"URL"`
	CallbackKeyFile string `help:"File with the callback key that the bridge asks for." placeholder:"FILE"`
	Key             string `help:"File of the key to sign with, which demo and simulate --key name." required:"" placeholder:"FILE"`
	Issuer          string `help:"Issuer of the token, as the bridge knows it." default:"http://127.0.0.1:8081" placeholder:"URL"`
	Audience        string `help:"Audience of the token. None means the demo resource's." placeholder:"GUID"`
}

// Run sends the event of a new call, once, prints what came of it, and fails
// unless the answer was 200.
func (c *triggerCmd) Run(ctx context.Context, std stdio) error {
	call := acstest.NewCall()
	event, err := call.NewEvent(c.Type)
	if err != nil {
		return err
	}
	key, err := acstest.LoadKey(c.Key)
	if err != nil {
		return fmt.Errorf("%w (demo prints the path of its key, simulate takes one with --key)", err)
	}
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{Issuer: c.Issuer, Key: key})
	if err != nil {
		return err
	}
	target, err := withCallbackKey(c.Target, c.CallbackKeyFile)
	if err != nil {
		return err
	}
	caller, err := acstest.NewCaller(acstest.CallerOptions{
		Target:   target,
		Signer:   issuer,
		Audience: cmp.Or(c.Audience, acstest.DemoAudience),
		Attempts: 1,
	})
	if err != nil {
		return err
	}
	defer caller.Close()

	answer := caller.Send(ctx, call.Deliver(event))
	if answer.Err != nil {
		return fmt.Errorf("no answer: %w; is the bridge running there?", answer.Err)
	}
	fmt.Fprintf(std.out, "%d in %v: %s %s of %s\n",
		answer.Status, answer.Latency.Round(10*time.Microsecond), answer.Type, event.ID, event.Source)
	switch answer.Status {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized:
		return errors.New("the bridge refused the token: --key, --issuer and --audience must be those that it trusts, and --callback-key-file one of its callback keys if it has any")
	default:
		return fmt.Errorf("the bridge answered %d %s", answer.Status, http.StatusText(answer.Status))
	}
}
