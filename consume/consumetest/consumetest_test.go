package consumetest_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/consume/consumetest"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

type menu struct{ Asked, Played int }

// ivr asks a caller twice, and then hangs up.
func ivr(acs *consumetest.Effects) consume.Service[menu] {
	return consume.Service[menu]{
		Name: "ivr", FirstRetry: 10 * time.Millisecond,
		Handle: func(_ context.Context, call *consume.Call[menu], m *schemas.Message) error {
			switch m.Event.Data.(type) {
			case *schemas.CallConnected, *consume.Timeout:
				if call.State.Asked == 2 {
					return acs.Do(call.EffectID("hang-up"), call.ID+" HangUp")
				}
				call.State.Asked++
				call.Expect(time.Hour, "RecognizeCompleted")
				return acs.Do(call.EffectID("menu"), fmt.Sprint(call.ID, " StartRecognizing ", call.State.Asked))
			case *schemas.RecognizeCompleted:
				call.State.Played++
				return acs.Do(call.EffectID("play"), call.ID+" Play")
			case *schemas.PlayFailed:
				return consume.Permanent(errors.New("the file is gone"))
			}
			return nil
		},
	}
}

// Whatever goes wrong, effects and state are the same.
func TestKit_faults(t *testing.T) {
	for _, faults := range []consumetest.Faults{{}, {Kills: true}, {Duplicates: true}, {Kills: true, Duplicates: true}} {
		t.Run(fmt.Sprintf("%+v", faults), func(t *testing.T) {
			var acs consumetest.Effects
			kit := consumetest.New(t, ivr(&acs), faults)
			kit.Send(consumetest.Event("CallConnected", "a", nil))
			kit.Wait()
			kit.Expire("a")
			kit.Send(
				consumetest.Event("RecognizeCompleted", "a", nil),
				consumetest.Event("PlayFailed", "a", nil),
				consumetest.Event("RecognizeCompleted", "a", nil))
			kit.Wait()
			want := []string{"a StartRecognizing 1", "a StartRecognizing 2", "a Play", "a Play"}
			if diff := cmp.Diff(want, acs.Names()); diff != "" {
				t.Error("effects:", diff)
			}
			if got := kit.State("a"); got != (menu{Asked: 2, Played: 2}) {
				t.Errorf("state: %+v", got)
			}
			letters := kit.DeadLetters()
			if len(letters) == 0 || letters[0].Header.Get(schemas.HeaderDeadReason) != "permanent" {
				t.Errorf("%d dead letters", len(letters))
			}
		})
	}
}

// A handler that takes a new id in each attempt makes its effect twice, which the kit
// shows.
func TestKit_showsEffectsMadeTwice(t *testing.T) {
	var acs consumetest.Effects
	attempts := 0
	service := ivr(&acs)
	service.Concurrency = 1
	service.Handle = func(_ context.Context, call *consume.Call[menu], _ *schemas.Message) error {
		attempts++
		return acs.Do(fmt.Sprint(attempts), "Play")
	}
	kit := consumetest.New(t, service, consumetest.Faults{Kills: true})
	kit.Send(consumetest.Event("CallConnected", "a", nil))
	kit.Wait()
	if diff := cmp.Diff([]string{"Play", "Play"}, acs.Names()); diff != "" {
		t.Error(diff)
	}
}

// The events of a capture, which have headers for the stream that they come from, can be sent.
func TestCapture(t *testing.T) {
	file := filepath.Join(t.TempDir(), "capture")
	capture, err := replay.CreateCapture(file, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range []*nats.Msg{consumetest.Event("CallConnected", "a", nil), consumetest.Event("RecognizeCompleted", "a", nil)} {
		m.Header.Set("Nats-Expected-Stream", "OTHER") // the kit's own stream has another name
		stored := &replay.StoredMessage{Stream: "OTHER", Sequence: uint64(i + 1), Time: time.Now(), Subject: m.Subject, Header: m.Header, Data: m.Data}
		capture.Send(t.Context(), stored, func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := capture.Close(); err != nil {
		t.Fatal(err)
	}
	var acs consumetest.Effects
	kit := consumetest.New(t, ivr(&acs), consumetest.Faults{Kills: true, Duplicates: true})
	kit.Send(consumetest.Capture(t, file)...)
	kit.Wait()
	if diff := cmp.Diff([]string{"a StartRecognizing 1", "a Play"}, acs.Names()); diff != "" {
		t.Error(diff)
	}
}

func TestEffects_idOfAnother(t *testing.T) {
	var acs consumetest.Effects
	if err := errors.Join(acs.Do("1", "Play"), acs.Do("1", "Play")); err != nil {
		t.Error(err)
	}
	if err := acs.Do("1", "HangUp"); err == nil || !strings.Contains(err.Error(), "Play") {
		t.Errorf("got %v", err)
	}
}
