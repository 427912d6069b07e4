package console_test

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acsbridge/acsbridge/console"
)

// bridge is a bridge whose NATS goes away.
type bridge struct {
	began time.Time
	away  atomic.Bool // NATS
	ready atomic.Bool

	refusals []console.Refusal
	letters  []string // paths of dead-letter files
}

func (b *bridge) State() console.State {
	minutes := time.Since(b.began).Minutes()
	return console.State{
		Parts:     []console.Part{{Name: "process", Ready: true, Text: "running"}, {Name: "keys", Ready: b.ready.Load(), Text: "none yet"}},
		Notes:     []console.Note{{Part: "disk", Text: "almost <full>: make room"}},
		Connected: !b.away.Load(), Answers: map[int]uint64{200: uint64(minutes * 60), 401: uint64(minutes * 6)},
		Journal: &console.Journal{Bytes: int64(minutes * (1 << 20)), MaxBytes: 100 << 20, Waiting: 7},
		Keys:    2, KeysFetched: b.began, LastStored: b.began,
	}
}

func (b *bridge) Refusals() ([]console.Refusal, []console.RefusalCount) { return b.refusals, nil }

func (b *bridge) DeadLetters() ([]string, error) { return slices.Clone(b.letters), nil }

// TestNow says in one sentence how the bridge is, from what it was in the last minutes.
func TestNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bridge{began: time.Now()}
		b.ready.Store(true)
		c := console.New(console.Options{Bridge: b, Logger: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		go c.Run(ctx)
		says := func(wants ...string) {
			t.Helper()
			status, page := request{path: "/"}.page(t, c)
			text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, "")
			for _, want := range wants {
				if status != http.StatusOK || !strings.Contains(text, want) {
					t.Errorf("%d, no %q in\n%s", status, want, regexp.MustCompile(`\n\s*\n`).ReplaceAllString(text, "\n"))
				}
			}
		}
		time.Sleep(10*time.Minute + time.Second)
		says("Taking callbacks. 7 records on the way to the stream. 1 note below.", "1.1/s", "200 601", "2, fetched 10 min ago", "almost &lt;full&gt;: make room", "10.0 MiB of 100.0 MiB", "last minute: 61 good", "1 min ago: 60 good")
		b.away.Store(true)
		time.Sleep(4 * time.Minute)
		says("Taking callbacks. NATS disconnected for 4 min, room for 86 min. 1 note below.", "full in 86 min")
		b.ready.Store(false)
		says("Not taking callbacks: keys: none yet. NATS disconnected")
		b.away.Store(false)
		b.ready.Store(true)
		time.Sleep(2 * time.Hour)
		says("Taking callbacks. 7 records")
		stop()
		synctest.Wait()
	})
}

// TestRefusals_foreign counts the audiences of well-signed tokens that are not configured,
// the most frequent first.
func TestRefusals_foreign(t *testing.T) {
	t.Parallel()
	refusal := func(id string, foreign bool) console.Refusal {
		return console.Refusal{At: time.Now(), Reason: "wrong_audience", Signed: true, Foreign: foreign, Audiences: []string{id}}
	}
	c := console.New(console.Options{Logger: slog.New(slog.DiscardHandler), Bridge: &bridge{refusals: []console.Refusal{
		refusal("once", true), refusal("configured", false), refusal("twice", true), refusal("twice", true), {Audiences: []string{"unsigned"}},
	}}})
	_, page := request{path: "/refusals"}.page(t, c)
	asked := regexp.MustCompile(`<li><code>([a-z]*)</code>: ([^,]*), last [^<]* Yours\?`).FindAllStringSubmatch(page, -1)
	if len(asked) != 2 || asked[0][1]+" "+asked[0][2] != "twice 2 tokens" || asked[1][1]+" "+asked[1][2] != "once 1 token" {
		t.Errorf("the page asks about %q", asked)
	}
}
