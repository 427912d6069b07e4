package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/schemas"
)

// triggerCmd sends one signed event. The bridge must trust the key, which a
// running simulate or demo shares as a file.
type triggerCmd struct {
	Type string `arg:"" optional:"" help:"Event type, such as CallConnected." placeholder:"TYPE"`

	List bool     `help:"List the types that can be sent, and send nothing."`
	Set  []string `help:"Change a member of the event, as in data.resultInformation.code=486. Repeatable." placeholder:"PATH=VALUE" sep:"none"`
	Call string   `help:"callConnectionId of the event. None means that of a new call." placeholder:"ID"`
	File string   `help:"Send the events of this file, an array or one, instead of a made one. Those of Event Grid, in either of its schemas, go to --eventgrid-target." placeholder:"FILE"`

	Target          string `help:"Callback URL of the bridge." default:"http://127.0.0.1:8080/callbacks" placeholder:"URL"`
	EventGridTarget string `name:"eventgrid-target" help:"URL of the bridge's route for Event Grid, for the events that come that way." default:"http://127.0.0.1:8080/eventgrid" placeholder:"URL"`
	CallbackKeyFile string `help:"File with the callback key that the bridge asks for." placeholder:"FILE"`
	Key             string `help:"File of the key to sign with, which demo and simulate --key name." placeholder:"FILE"`
	Issuer          string `help:"Issuer of the token, as the bridge knows it." default:"http://127.0.0.1:8081" placeholder:"URL"`
	Audience        string `help:"Audience of the token. None means the demo resource's, or for Event Grid the demo application's." placeholder:"GUID"`
}

// Validate is called by kong, so that flags that exclude each other are an error of
// the command line.
func (c *triggerCmd) Validate() error {
	switch {
	case c.List:
		return nil
	case c.Type == "" && c.File == "":
		return errors.New("name an event type (--list shows them), or a --file with events")
	case c.File != "" && (c.Type != "" || c.Call != ""):
		return errors.New("--file has events of its own: no type and no --call with it, --set changes them")
	case c.Key == "":
		return errors.New("missing flags: --key=FILE")
	}
	return nil
}

// Run sends the event, once, prints the answer, and fails unless the answer
// was 200.
func (c *triggerCmd) Run(ctx context.Context, std stdio) error {
	if c.List {
		_, err := fmt.Fprintln(std.out, strings.Join(append(acstest.Types(), acstest.GridTypes()...), "\n"))
		return err
	}
	delivery, err := c.delivery()
	if err != nil {
		return err
	}
	caller, err := c.caller()
	if err != nil {
		return err
	}
	defer caller.Close()

	answer := caller.Send(ctx, delivery)
	if answer.Err != nil {
		return fmt.Errorf("no answer: %w; is the bridge running there?", answer.Err)
	}
	for _, event := range delivery.Events {
		fmt.Fprintf(std.out, "%d in %v: %s %s of %s\n", answer.Status, answer.Latency.Round(10*time.Microsecond),
			schemas.ShortType(event.Type), event.ID, event.Source)
	}
	switch answer.Status {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized:
		return errors.New("the bridge refused the token: --key, --issuer and --audience must be those that it trusts, and --callback-key-file one of its callback keys if it has any")
	default:
		return fmt.Errorf("the bridge answered %d %s", answer.Status, http.StatusText(answer.Status))
	}
}

// delivery is the callback to send.
func (c *triggerCmd) delivery() (acstest.Callback, error) {
	call := acstest.NewCall()
	if c.Call != "" {
		call = acstest.NewCallOf(c.Call)
	}
	events, err := c.events(call)
	if err != nil {
		return acstest.Callback{}, err
	}
	for _, change := range c.Set {
		path, value, ok := strings.Cut(change, "=")
		if !ok {
			return acstest.Callback{}, fmt.Errorf("--set %s: write PATH=VALUE, such as data.operationContext=menu", change)
		}
		for i := range events {
			if events[i], err = acstest.Set(events[i], path, value); err != nil {
				return acstest.Callback{}, fmt.Errorf("--%w", err)
			}
		}
	}
	return call.RawCallback(events)
}

// events are those of the file, or one that is made.
func (c *triggerCmd) events(call *acstest.SimCall) ([]json.RawMessage, error) {
	if c.File != "" {
		body, err := bom.ReadFile(c.File)
		if err != nil {
			return nil, err
		}
		events, err := acstest.ParseBody(body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.File, err)
		}
		return events, nil
	}
	event, err := call.NewEvent(c.Type)
	if err != nil {
		return nil, err
	}
	document, err := json.Marshal(event)
	return []json.RawMessage{document}, err
}

// caller signs and sends as the flags say.
func (c *triggerCmd) caller() (*acstest.Caller, error) {
	key, err := acstest.LoadKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("%w (demo prints the path of its key, simulate takes one with --key)", err)
	}
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{Issuer: c.Issuer, Key: key})
	if err != nil {
		return nil, err
	}
	target, err := withCallbackKey(c.Target, c.CallbackKeyFile)
	if err != nil {
		return nil, err
	}
	return acstest.NewCaller(acstest.CallerOptions{
		Target:   target,
		Signer:   issuer,
		Audience: cmp.Or(c.Audience, acstest.DemoAudience),
		EventGrid: &acstest.EventGridOptions{
			Target: c.EventGridTarget, Audience: c.Audience,
		},
		Attempts: 1,
	})
}
