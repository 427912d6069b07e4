package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natsconn"
)

// Examination is what NATS has of what a bridge needs. Nothing was made, changed or
// stored to find it.
type Examination struct {
	// Limits are those of the server and the account that are too low, or nearly
	// reached, each with its consequence.
	Limits []string
	// Account is nil, and AccountErr says why, when this login may not ask for it.
	Account    *jetstream.AccountInfo
	AccountErr error
	// Streams are the stream of the events and that of the quarantine.
	Streams [2]StreamExamination
}

// StreamExamination is what NATS has of one stream, and what this login may do with it.
// Errors have their remedy.
type StreamExamination struct {
	Name string
	// InfoErr says why the stream cannot be looked at. Missing says that it does not exist,
	// and CreateErr why the bridge could not make it.
	InfoErr   error
	Missing   bool
	CreateErr error

	Config      jetstream.StreamConfig
	State       jetstream.StreamState
	Cluster     *jetstream.ClusterInfo // nil for a server without a cluster
	Domain      string
	Differences []Difference // from the settings

	PublishErr error    // a publish would be refused
	Others     []string // other streams that take the same subjects
	Direct     []string // why a direct get fails
	UpdateErr  error    // StreamConfig.Update would be refused; nil when it is not set
}

// Examine looks at what a publisher with these options would need of NATS. It takes
// about a second, and three more when a right is missing.
func Examine(ctx context.Context, link *natsconn.Link, opts Options) (*Examination, error) {
	js, err := link.JetStream(ctx)
	if err != nil {
		return nil, err
	}
	config, silent := opts.Stream.withDefaults(), slog.New(slog.DiscardHandler)
	e := &Examination{Limits: serverLimits(js.Conn())}
	var work sync.WaitGroup
	for i, t := range []*target{config.eventTarget(link, silent), config.quarantineTarget(link, silent)} {
		work.Go(func() { e.Streams[i] = t.examine(ctx, js) })
	}
	work.Go(func() { e.Account, e.AccountErr = js.AccountInfo(ctx) })
	work.Wait()
	if e.Account != nil {
		e.Limits = append(e.Limits, nearlyReached(e.Account)...)
	}
	return e, ctx.Err()
}

// examine is a survey that makes and changes nothing.
func (t *target) examine(ctx context.Context, js jetstream.JetStream) StreamExamination {
	e := StreamExamination{Name: t.want.Name}
	began := time.Now()
	have, err := lookAt(ctx, js, t.want.Name)
	var state streamState
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		e.Missing = true
		e.CreateErr = t.mayAsk(ctx, js, "STREAM.CREATE."+t.want.Name)
	case err != nil:
		e.InfoErr = t.explain(err, began, apiSubject(js, "STREAM.INFO."+t.want.Name))
	default:
		e.Config, e.State, e.Cluster, e.Domain = have.Config, have.State, have.Cluster, have.Domain
		e.Differences = differences(have.Config, t.want, t.config.Prefix)
		state = have.streamState(e.Differences)
		t.state, t.known = state, true
		e.Direct = t.directGet(ctx, js, state)
		if t.config.Update && len(e.Differences) > 0 {
			e.UpdateErr = t.mayAsk(ctx, js, "STREAM.UPDATE."+t.want.Name)
		}
	}
	refusal, _ := t.trial(ctx, js.Conn(), state)
	if !e.Missing || errors.Is(refusal, nats.ErrPermissionViolation) { // else no stream answers
		e.PublishErr = refusal
	}
	e.Others = t.notes[noteForeign]
	if e.Missing && len(e.Others) > 0 {
		other, _, _ := strings.Cut(e.Others[0], " as well as ")
		e.CreateErr = fmt.Errorf("%s already; remove them there, or choose another --subject-prefix, or name that stream with --stream", other)
	}
	return e
}

// mayAsk sends a request of JetStream's API without the body that it needs: an answer,
// which is an error, proves the right to it.
func (t *target) mayAsk(ctx context.Context, js jetstream.JetStream, operation string) error {
	ctx, cancel := context.WithTimeout(ctx, natsconn.RequestTimeout)
	defer cancel()
	began, subject := time.Now(), apiSubject(js, operation)
	if _, err := js.Conn().RequestWithContext(ctx, subject, nil); err != nil {
		return t.explain(err, began, subject)
	}
	return nil
}
