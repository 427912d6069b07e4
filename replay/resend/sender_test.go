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

// target answers as a test wants.
type target struct {
	answer func(ctx context.Context, m *replay.StoredMessage) error

	mu       sync.Mutex
	got      []uint64
	times    []time.Duration
	begun    time.Time
	inFlight map[string]int    // by subject
	last     map[string]uint64 // by subject
	most     int
	fault    string
}

func newTarget(answer func(context.Context, *replay.StoredMessage) error) *target {
	return &target{answer: answer, inFlight: map[string]int{}, last: map[string]uint64{}, begun: time.Now()}
}

func (g *target) Flush() error { return nil }

func (g *target) Send(ctx context.Context, m *replay.StoredMessage, done func(error)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got = append(g.got, m.Sequence)
	g.times = append(g.times, time.Since(g.begun))
	g.inFlight[m.Subject]++
	if !strings.HasSuffix(m.Subject, "._") && (g.inFlight[m.Subject] > 1 || m.Sequence < g.last[m.Subject]) {
		g.fault = fmt.Sprintf("sequence %d was sent with or after sequence %d of its call", m.Sequence, g.last[m.Subject])
	}
	g.last[m.Subject] = m.Sequence
	all := 0
	for _, n := range g.inFlight {
		all += n
	}
	g.most = max(g.most, all)
	go func() {
		err := g.answer(ctx, m)
		g.mu.Lock()
		g.inFlight[m.Subject]--
		g.mu.Unlock()
		done(err)
	}()
}

// TestSender_order sends to a target that takes a different time for each message.
func TestSender_order(t *testing.T) {
	const n, calls, maxInFlight = 5000, 40, 16
	for sequential, most := range map[bool]int{false: maxInFlight, true: 1} {
		synctest.Test(t, func(t *testing.T) {
			g := newTarget(func(context.Context, *replay.StoredMessage) error {
				time.Sleep(rand.N(100 * time.Millisecond))
				return nil
			})
			s := resend.Sender{Target: g, MaxInFlight: maxInFlight, Sequential: sequential}
			if err := s.Send(t.Context(), inOrder(messages(n, calls))); err != nil {
				t.Fatal(err)
			}
			want := resend.Progress{Accepted: n, Before: n, Next: n + 1}
			if diff := cmp.Diff(want, s.Progress()); diff != "" || g.fault != "" || len(g.got) != n || g.most != most || sequential && !slices.IsSorted(g.got) {
				t.Errorf("sequential %v: %s; %d sent, %d at a time; progress (-want +got):\n%s", sequential, g.fault, len(g.got), g.most, diff)
			}
		})
	}
}

// TestSender_withoutCall sends events without a call at the same time.
func TestSender_withoutCall(t *testing.T) {
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

// TestSender_slowCall has one call whose first message hangs.
func TestSender_slowCall(t *testing.T) {
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

// TestSender_maxPending bounds, by number and by size, what is read while a call hangs.
func TestSender_maxPending(t *testing.T) {
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

// TestSender_rejections continues after rejected messages, and stops after ten in a
// row.
func TestSender_rejections(t *testing.T) {
	refusal := errors.New("not that one")
	for _, test := range []struct {
		name     string
		rejected func(uint64) bool
		want     resend.Progress
		fails    bool
		ignore   bool
	}{
		{"some", func(n uint64) bool { return n%10 == 0 }, resend.Progress{Accepted: 90, Rejected: 10, Before: 100, Next: 101}, false, false},
		{"nine in a row", func(n uint64) bool { return n > 91 }, resend.Progress{Accepted: 91, Rejected: 9, Before: 100, Next: 101}, false, false},
		{"all from 51 on", func(n uint64) bool { return n > 50 }, resend.Progress{Accepted: 50, Rejected: 10, Before: 50, Next: 51}, true, false},
		{"all from 51 on, rejections ignored", func(n uint64) bool { return n > 50 }, resend.Progress{Accepted: 50, Rejected: 50, Before: 100, Next: 101}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newTarget(func(_ context.Context, m *replay.StoredMessage) error {
				if test.rejected(m.Sequence) {
					return &resend.RejectedError{Sequence: m.Sequence, Err: refusal}
				}
				return nil
			})
			done := 0
			s := resend.Sender{Target: g, MaxInFlight: 1, IgnoreRejections: test.ignore, OnDone: func(m *replay.StoredMessage, err error) {
				if (err != nil) != test.rejected(m.Sequence) {
					t.Errorf("sequence %d: %v", m.Sequence, err)
				}
				done++
			}}
			err := s.Send(t.Context(), inOrder(messages(100, 7)))
			if diff := cmp.Diff(test.want, s.Progress()); diff != "" || done != test.want.Accepted+test.want.Rejected {
				t.Errorf("%d done, progress (-want +got):\n%s", done, diff)
			}
			if test.fails != errors.Is(err, refusal) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestSender_failure finishes what is in flight, and says where to continue.
func TestSender_failure(t *testing.T) {
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

// TestSender_cancel finishes what is in flight when the context ends or the source
// fails.
func TestSender_cancel(t *testing.T) {
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

// TestPace compares the times of sending with the pace.
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

// TestPace_original is that of the callbacks, not that of their storing, and stops at
// a message that came years later.
func TestPace_original(t *testing.T) {
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
