package resend_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
	"github.com/acsbridge/acsbridge/schemas"
)

// messages are n messages of calls in turn, one a second.
func messages(n, calls int) []*replay.StoredMessage {
	list := make([]*replay.StoredMessage, n)
	for i := range list {
		list[i] = &replay.StoredMessage{
			Stream: schemas.Stream, Sequence: uint64(i + 1), Time: time.Unix(int64(i), 0),
			Subject: schemas.WithSlot(fmt.Sprintf("acs.contoso.CallConnected.call-%d", i%calls)),
			Header:  nats.Header{}, Data: []byte(`{"id":"` + fmt.Sprint(i) + `"}`),
		}
	}
	return list
}

func inOrder(list []*replay.StoredMessage) iter.Seq2[*replay.StoredMessage, error] {
	return func(yield func(*replay.StoredMessage, error) bool) {
		for _, m := range list {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// target is one whose answers a test decides about.
type target struct {
	answer func(ctx context.Context, m *replay.StoredMessage) error

	mu     sync.Mutex
	got    []uint64
	times  []time.Duration
	begun  time.Time
	flying map[string]int // by subject
	most   int
	fault  string
}

func newTarget(answer func(context.Context, *replay.StoredMessage) error) *target {
	return &target{answer: answer, flying: map[string]int{}, begun: time.Now()}
}

func (g *target) Flush() error { return nil }

func (g *target) Send(ctx context.Context, m *replay.StoredMessage, done func(error)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got = append(g.got, m.Sequence)
	g.times = append(g.times, time.Since(g.begun))
	g.flying[m.Subject]++
	if g.flying[m.Subject] > 1 && !strings.HasSuffix(m.Subject, "._") {
		g.fault = fmt.Sprintf("sequence %d was sent before the one of its call before it was settled", m.Sequence)
	}
	all := 0
	for _, n := range g.flying {
		all += n
	}
	g.most = max(g.most, all)
	go func() {
		err := g.answer(ctx, m)
		g.mu.Lock()
		g.flying[m.Subject]--
		g.mu.Unlock()
		done(err)
	}()
}

// TestTheOrderOfACallIsKept sends to a target that takes its time, a different
// one each time.
func TestTheOrderOfACallIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(func(context.Context, *replay.StoredMessage) error {
			time.Sleep(rand.N(100 * time.Millisecond))
			return nil
		})
		const n, calls, inFlight = 5000, 40, 16
		s := resend.Sender{Target: g, MaxInFlight: inFlight}
		if err := s.Send(t.Context(), inOrder(messages(n, calls))); err != nil {
			t.Fatal(err)
		}
		last := map[uint64]uint64{}
		for _, seq := range g.got {
			if call := (seq - 1) % calls; seq <= last[call] {
				t.Fatalf("sequence %d of call %d after %d", seq, call, last[call])
			} else {
				last[call] = seq
			}
		}
		want := resend.Progress{Accepted: n, Before: n, Next: n + 1}
		if diff := cmp.Diff(want, s.Progress()); diff != "" || g.fault != "" || len(g.got) != n || g.most != inFlight {
			t.Errorf("%s; %d sent, %d at a time; progress (-want +got):\n%s", g.fault, len(g.got), g.most, diff)
		}
	})
}

// TestSender_oneByOne keeps one order for all calls.
func TestSender_oneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(func(context.Context, *replay.StoredMessage) error {
			time.Sleep(rand.N(100 * time.Millisecond))
			return nil
		})
		s := resend.Sender{Target: g, Sequential: true, MaxInFlight: 16}
		if err := s.Send(t.Context(), inOrder(messages(500, 7))); err != nil || len(g.got) != 500 || g.most != 1 || !slices.IsSorted(g.got) {
			t.Errorf("%d sent, %d at a time, error %v", len(g.got), g.most, err)
		}
	})
}

// TestWithoutACallThereIsNoOrder sends events without a call side by side.
func TestWithoutACallThereIsNoOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(func(context.Context, *replay.StoredMessage) error { time.Sleep(time.Second); return nil })
		list := messages(8, 1)
		for _, m := range list {
			m.Subject = "acs.contoso.CallConnected.d._"
		}
		s := resend.Sender{Target: g, MaxInFlight: 4}
		if err := s.Send(t.Context(), inOrder(list)); err != nil || g.most != 4 {
			t.Errorf("%d at a time, error %v", g.most, err)
		}
	})
}

// TestOneCallDoesNotHoldUpOthers has one call whose first message hangs.
func TestOneCallDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(func(_ context.Context, m *replay.StoredMessage) error {
			if m.Sequence == 1 {
				time.Sleep(time.Hour)
			}
			return nil
		})
		s := resend.Sender{Target: g, MaxInFlight: 4}
		done := make(chan error)
		go func() { done <- s.Send(t.Context(), inOrder(messages(100, 10))) }()
		synctest.Wait()
		if p := s.Progress(); p.Accepted != 90 || p.Next != 1 || p.Before != 0 {
			t.Errorf("while one call hangs: %+v", p)
		}
		if err := <-done; err != nil || s.Progress().Next != 101 {
			t.Errorf("error %v, progress %+v", err, s.Progress())
		}
	})
}

// TestReadingAheadIsBounded has a call that hangs, and looks how far the others
// are read meanwhile: by number, and by size.
func TestReadingAheadIsBounded(t *testing.T) {
	for size, want := range map[int]int{10: 2048, 1 << 20: 16} {
		synctest.Test(t, func(t *testing.T) {
			g := newTarget(func(_ context.Context, m *replay.StoredMessage) error { time.Sleep(time.Hour); return nil })
			list := messages(5000, 1)
			read := 0
			source := func(yield func(*replay.StoredMessage, error) bool) {
				for _, m := range list {
					m.Data = make([]byte, size)
					read++
					if !yield(m, nil) {
						return
					}
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- (&resend.Sender{Target: g}).Send(ctx, source) }()
			synctest.Wait()
			if read != want+1 {
				t.Errorf("%d messages of %d bytes are read, want %d and one that waits", read, size, want)
			}
			cancel()
			<-done
		})
	}
}

// TestRejectedMessagesAreReported goes on behind messages that are not taken,
// and gives up when none is any more.
func TestRejectedMessagesAreReported(t *testing.T) {
	refusal := errors.New("not that one")
	for _, test := range []struct {
		name     string
		rejected func(uint64) bool
		want     resend.Progress
		fails    bool
		patient  bool
	}{
		{"some", func(n uint64) bool { return n%10 == 0 }, resend.Progress{Accepted: 90, Rejected: 10, Before: 100, Next: 101}, false, false},
		{"nine in a row", func(n uint64) bool { return n > 91 }, resend.Progress{Accepted: 91, Rejected: 9, Before: 100, Next: 101}, false, false},
		{"all from 51 on", func(n uint64) bool { return n > 50 }, resend.Progress{Accepted: 50, Rejected: 10, Before: 50, Next: 51}, true, false},
		{"all from 51 on, with patience", func(n uint64) bool { return n > 50 }, resend.Progress{Accepted: 50, Rejected: 50, Before: 100, Next: 101}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newTarget(func(_ context.Context, m *replay.StoredMessage) error {
				if test.rejected(m.Sequence) {
					return &resend.RejectedError{Sequence: m.Sequence, Err: refusal}
				}
				return nil
			})
			settled := 0
			s := resend.Sender{Target: g, MaxInFlight: 1, IgnoreRejections: test.patient, OnDone: func(m *replay.StoredMessage, err error) {
				if (err != nil) != test.rejected(m.Sequence) {
					t.Errorf("sequence %d: %v", m.Sequence, err)
				}
				settled++
			}}
			err := s.Send(t.Context(), inOrder(messages(100, 7)))
			if diff := cmp.Diff(test.want, s.Progress()); diff != "" || settled != test.want.Accepted+test.want.Rejected {
				t.Errorf("%d settled, progress (-want +got):\n%s", settled, diff)
			}
			if test.fails != errors.Is(err, refusal) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestAFailureEndsTheSending finishes what is under way and says where to go on.
func TestAFailureEndsTheSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		g := newTarget(func(ctx context.Context, m *replay.StoredMessage) error {
			if m.Sequence == 21 {
				return broken
			}
			time.Sleep(time.Duration(m.Sequence) * time.Millisecond)
			return nil
		})
		s := resend.Sender{Target: g, MaxInFlight: 8}
		if err := s.Send(t.Context(), inOrder(messages(1000, 50))); !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
		p := s.Progress()
		if p.Next != 21 || p.Before != 20 || p.Accepted != len(g.got)-1 || p.Accepted > 40 {
			t.Errorf("%+v, %d sent", p, len(g.got))
		}
	})
}

// TestCancellingFinishesWhatIsUnderWay ends the context, and a source that
// fails ends the sending in the same way.
func TestCancellingFinishesWhatIsUnderWay(t *testing.T) {
	lost := errors.New("lost")
	for _, cause := range []error{context.Canceled, lost} {
		synctest.Test(t, func(t *testing.T) {
			g := newTarget(func(ctx context.Context, m *replay.StoredMessage) error { time.Sleep(time.Second); return nil })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			source := func(yield func(*replay.StoredMessage, error) bool) {
				for _, m := range messages(1000, 1000) {
					if m.Sequence == 31 && cause == lost {
						yield(nil, lost)
						return
					}
					if !yield(m, nil) {
						return
					}
				}
			}
			time.AfterFunc(3500*time.Millisecond, cancel)
			s := resend.Sender{Target: g, MaxInFlight: 10}
			if err := s.Send(ctx, source); !errors.Is(err, cause) {
				t.Errorf("error %v", err)
			}
			p := s.Progress()
			if p.Accepted != len(g.got) || p.Next != uint64(p.Accepted)+1 || p.Accepted < 10 || p.Accepted > 40 {
				t.Errorf("%+v, %d sent", p, len(g.got))
			}
		})
	}
}

// TestPace holds the times at which messages are sent against their pace.
func TestPace(t *testing.T) {
	for text, want := range map[string]time.Duration{"fast": 0, "original": 9 * time.Second, "10x": 900 * time.Millisecond, "20/s": 450 * time.Millisecond, "0.5/s": 18 * time.Second} {
		t.Run(text, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pace, err := resend.ParsePace(text)
				if err != nil {
					t.Fatal(err)
				}
				g := newTarget(func(context.Context, *replay.StoredMessage) error { return nil })
				s := resend.Sender{Target: g, Pace: pace}
				if err := s.Send(t.Context(), inOrder(messages(10, 10))); err != nil {
					t.Fatal(err)
				}
				if got := g.times[9] - g.times[0]; got != want {
					t.Errorf("the last one came after %v, want %v", got, want)
				}
			})
		})
	}
	for _, text := range []string{"", "0/s", "-1/s", "x", "Inf/s", "NaNx", "10", "slow"} {
		if _, err := resend.ParsePace(text); err == nil {
			t.Errorf("%q is a pace", text)
		}
	}
}

// TestOriginalPaceIsThatOfTheCallbacks has a stream that stored all at once what
// had come over ten seconds, and a message that came much later.
func TestOriginalPaceIsThatOfTheCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTarget(func(context.Context, *replay.StoredMessage) error { return nil })
		list := messages(3, 3)
		for i, m := range list {
			m.Header.Set(schemas.HeaderReceivedAt, m.Time.Add(time.Duration(i*i)*time.Second).UTC().Format(time.RFC3339Nano))
			m.Time = time.Unix(1000, 0)
		}
		s := resend.Sender{Target: g, Pace: resend.Pace{Speed: 2}}
		if err := s.Send(t.Context(), inOrder(list)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]time.Duration{0, time.Second, 3 * time.Second}, g.times); diff != "" {
			t.Error(diff)
		}
		list[2].Header.Set(schemas.HeaderReceivedAt, "2031-01-01T00:00:00Z")
		if err := (&resend.Sender{Target: g, Pace: resend.Pace{Speed: 1}}).Send(t.Context(), inOrder(list)); err == nil || !strings.Contains(err.Error(), "sequence 3 came") {
			t.Errorf("error %v", err)
		}
	})
}
