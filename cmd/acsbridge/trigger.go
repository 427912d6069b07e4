package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/running"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/bom"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// Where a bridge and a simulated key server are unless something else is known.
const (
	defaultCallbackURL  = "http://127.0.0.1:8080/callbacks"
	defaultEventGridURL = "http://127.0.0.1:8080/eventgrid"
	defaultIssuer       = "http://127.0.0.1:8081"
)

// triggerCmd sends signed events. The bridge must trust the key, which a running
// simulate or demo shares as a file.
type triggerCmd struct {
	Type string `arg:"" optional:"" help:"Event type, such as CallConnected." placeholder:"TYPE"`

	List bool     `help:"List the types that can be sent, and send nothing."`
	Set  []string `help:"Change a member of the event, as in data.resultInformation.code=486. Repeatable." placeholder:"PATH=VALUE" sep:"none"`
	Call string   `help:"callConnectionId of the event. None means that of a new call." placeholder:"ID"`
	File string   `help:"Send the events of this file instead of a made one: an array or one event, the lines of tail --output raw, or what replay --to file: writes. Those of Event Grid, in either of its schemas, go to --eventgrid-target." placeholder:"FILE"`

	Target          string `help:"Callback URL of the bridge. None means that of the demo or bridge that runs here, or else http://127.0.0.1:8080/callbacks." placeholder:"URL"`
	EventGridTarget string `name:"eventgrid-target" help:"URL of the bridge's route for Event Grid, for the events that come that way. None means likewise, or else http://127.0.0.1:8080/eventgrid." placeholder:"URL"`
	CallbackKeyFile string `help:"File with the callback key that the bridge asks for. None means that of the demo that runs here." placeholder:"FILE"`
	Key             string `help:"File of the key to sign with, as simulate --key made it. None means that of the demo that runs here." placeholder:"FILE"`
	Issuer          string `help:"Issuer of the token, as the bridge knows it. None means that of the demo that runs here, or else http://127.0.0.1:8081." placeholder:"URL"`
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
	}
	return nil
}

// Run sends each callback once, prints the answers and what the stream has of the
// events, and fails unless every answer was 200.
func (c *triggerCmd) Run(ctx context.Context, std stdio) error {
	if c.List {
		_, err := fmt.Fprintln(std.out, strings.Join(append(acstest.Types(), acstest.GridTypes()...), "\n"))
		return err
	}
	callbacks, err := c.callbacks()
	if err != nil {
		return err
	}
	bridge := c.findRunning(std)
	if c.Key == "" {
		return errors.New("no key to sign with: no demo of this user runs here; start one with acsbridge demo, or name the key of simulate --key with --key FILE")
	}
	caller, err := c.caller()
	if err != nil {
		return err
	}
	defer caller.Close()
	stream := openTriggerStream(ctx, std, bridge)
	defer stream.close()
	for _, callback := range callbacks {
		if err := c.send(ctx, std, caller, callback, stream); err != nil {
			return err
		}
	}
	return nil
}

// send sends one callback and prints a block for each event of it.
func (c *triggerCmd) send(ctx context.Context, std stdio, caller *acstest.Caller, callback acstest.Callback, stream *triggerStream) error {
	stream.before(ctx, &callback)
	answer := caller.Send(ctx, callback)
	if answer.Err != nil {
		return fmt.Errorf("no answer: %w; is the bridge running there?", answer.Err)
	}
	for _, event := range callback.Events {
		fmt.Fprintf(std.out, "%d in %v: %s\n  event id          %s\n", answer.Status, answer.Latency.Round(10*time.Microsecond),
			schemas.ShortType(event.Type), view.Printable(event.ID))
		switch ids := idsOf(&event); {
		case ids.CallConnectionID != "":
			fmt.Fprintf(std.out, "  callConnectionId  %s\n", view.Printable(ids.CallConnectionID))
		case ids.CorrelationID != "":
			fmt.Fprintf(std.out, "  correlationId     %s\n", view.Printable(ids.CorrelationID))
		}
		if answer.Status == http.StatusOK {
			stream.print(ctx, std.out, &event, callback.Grid)
		}
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

// callbacks are those to send: one with a made event, or those of the file.
func (c *triggerCmd) callbacks() ([]acstest.Callback, error) {
	call := acstest.NewCall()
	if c.Call != "" {
		call = acstest.NewCallOf(c.Call)
	}
	if c.File == "" {
		event, err := call.NewEvent(c.Type)
		if err != nil {
			return nil, err
		}
		document, err := json.Marshal(event)
		if err != nil {
			return nil, err
		}
		callback, err := c.callback(call, []json.RawMessage{document})
		return []acstest.Callback{callback}, err
	}
	body, err := bom.ReadFile(c.File)
	if err != nil {
		return nil, err
	}
	var callbacks []acstest.Callback
	if isCapture(body) {
		callbacks, err = c.captured(call, body)
	} else {
		callbacks, err = c.plain(call, body)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.File, err)
	}
	return callbacks, nil
}

// callback makes a callback of events, with the changes of --set.
func (c *triggerCmd) callback(call *acstest.SimCall, events []json.RawMessage) (callback acstest.Callback, err error) {
	for _, change := range c.Set {
		path, value, ok := strings.Cut(change, "=")
		if !ok {
			return callback, fmt.Errorf("--set %s: write PATH=VALUE, such as data.operationContext=menu", change)
		}
		for i := range events {
			if events[i], err = acstest.Set(events[i], path, value); err != nil {
				return callback, fmt.Errorf("--%w", err)
			}
		}
	}
	return call.RawCallback(events)
}

// plain reads JSON values: each array is a callback, and so is each event outside of
// one, such as the lines of tail --output raw.
func (c *triggerCmd) plain(call *acstest.SimCall, body []byte) (callbacks []acstest.Callback, err error) {
	values := json.NewDecoder(bytes.NewReader(body))
	for n := 1; values.More(); n++ {
		var value json.RawMessage
		if err := values.Decode(&value); err != nil {
			return nil, fmt.Errorf("value %d is not JSON: %w; write an array of events, one event, or one a line", n, err)
		}
		events, err := acstest.ParseBody(value)
		if err != nil {
			return nil, fmt.Errorf("value %d: %w", n, err)
		}
		callback, err := c.callback(call, events)
		if err != nil {
			return nil, fmt.Errorf("value %d: %w", n, err)
		}
		callbacks = append(callbacks, callback)
	}
	if callbacks == nil {
		return nil, errors.New("it has no events")
	}
	return callbacks, nil
}

// isCapture reports whether a file is one of replay --to file:, whose lines hold the
// event as one member of several.
func isCapture(body []byte) bool {
	var first struct {
		Stream   string `json:"stream"`
		Sequence uint64 `json:"sequence"`
	}
	return json.NewDecoder(bytes.NewReader(body)).Decode(&first) == nil && first.Stream != "" && first.Sequence > 0
}

// captured reads a capture. Each event gets the path and the query of the callback URL
// with which it came, unless they were cut.
func (c *triggerCmd) captured(call *acstest.SimCall, body []byte) (callbacks []acstest.Callback, err error) {
	for m, err := range replay.ReadCapture(bytes.NewReader(body), replay.Selection{}) {
		if err != nil {
			return nil, err
		}
		callback, err := c.callback(call, []json.RawMessage{m.Data})
		if err != nil {
			return nil, fmt.Errorf("sequence %d: %w", m.Sequence, err)
		}
		if !callback.Grid {
			callback.Path, callback.Query = "", ""
			if !m.TruncatedURL() {
				callback.Path, callback.Query = m.Header.Get(schemas.HeaderPath), m.Header.Get(schemas.HeaderQuery)
			}
		}
		callbacks = append(callbacks, callback)
	}
	if callbacks == nil {
		return nil, errors.New("it has no events")
	}
	return callbacks, nil
}

// findRunning fills what the flags leave open from the newest demo or bridge of this
// user that fits them, and says so. It returns nil when there is none.
func (c *triggerCmd) findRunning(std stdio) *running.State {
	states, err := running.Find()
	if err != nil {
		return nil // as if none ran; what is missing is reported then
	}
	states = slices.DeleteFunc(states, func(s running.State) bool {
		return c.Key == "" && s.Key == "" || !sameHost(c.Target, s.CallbackURL) || !sameHost(c.EventGridTarget, s.EventGridURL)
	})
	if len(states) == 0 {
		return nil
	}
	s := &states[0]
	if c.Target == "" || c.Key == "" {
		fmt.Fprintf(std.err, "acsbridge: sends to %s, %s; --target and --key name others\n", s.CallbackURL, running.Name(s, len(states)))
	}
	c.Target = cmp.Or(c.Target, s.CallbackURL)
	c.EventGridTarget = cmp.Or(c.EventGridTarget, s.EventGridURL)
	c.CallbackKeyFile = cmp.Or(c.CallbackKeyFile, s.CallbackKeyFile)
	c.Key = cmp.Or(c.Key, s.Key)
	c.Issuer = cmp.Or(c.Issuer, s.Issuer)
	return s
}

// sameHost reports whether a URL has the host and the port of another. An empty one
// leaves that open.
func sameHost(target, of string) bool {
	if target == "" {
		return true
	}
	a, errA := url.Parse(target)
	b, errB := url.Parse(of)
	return errA == nil && errB == nil && strings.Replace(a.Host, "localhost:", "127.0.0.1:", 1) == b.Host
}

// caller signs and sends as the flags say.
func (c *triggerCmd) caller() (*acstest.Caller, error) {
	key, err := acstest.LoadKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("%w (simulate takes one with --key; for a demo that runs, leave --key out)", err)
	}
	issuer, err := acstest.NewIssuer(acstest.IssuerOptions{Issuer: cmp.Or(c.Issuer, defaultIssuer), Key: key})
	if err != nil {
		return nil, err
	}
	target, err := withCallbackKey(cmp.Or(c.Target, defaultCallbackURL), c.CallbackKeyFile)
	if err != nil {
		return nil, err
	}
	return acstest.NewCaller(acstest.CallerOptions{
		Target:   target,
		Signer:   issuer,
		Audience: cmp.Or(c.Audience, acstest.DemoAudience),
		EventGrid: &acstest.EventGridOptions{
			Target: cmp.Or(c.EventGridTarget, defaultEventGridURL), Audience: c.Audience,
		},
		Attempts: 1,
	})
}
