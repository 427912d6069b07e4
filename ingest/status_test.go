package ingest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/acsbridge/acsbridge/publish"
	"github.com/acsbridge/acsbridge/publish/journal"
	"github.com/acsbridge/acsbridge/verify"
)

func TestStatusIsFinalOnlyWhenNoRetryHelps(t *testing.T) {
	type answer struct {
		err  error
		code int
	}
	answers := []answer{
		{nil, 200},
		{errNotFound, 404}, {errMethod, 405}, {errTooLarge, 413}, {errMediaType, 415},
		{errSource, 403}, {errCallbackKey, 401}, {errGridKey, 401}, {errRefusedClient, 503}, {errQuarantineRate, 503},
		{errBusy, 503}, {errDraining, 503}, {errIncomplete, 503},
		{verify.ErrNoKeys, 503},
		{publish.ErrUnavailable, 503}, {publish.ErrUnverified, 503},
		{fmt.Errorf("%w: %w", publish.ErrUnavailable, journal.ErrFull), 503},
		{fmt.Errorf("%w: %w", publish.ErrUnavailable, context.DeadlineExceeded), 503},
		{context.Canceled, 503}, {errors.New("something new"), 503},
	}
	for _, r := range verify.Reasons() {
		answers = append(answers, answer{fmt.Errorf("wrapped: %w", &verify.RefusedError{Reason: r}), 401})
	}
	for _, r := range Reasons() {
		answers = append(answers, answer{malformed(r, "detail"), 400})
	}
	for _, a := range answers {
		if got, _ := status(a.err); got != a.code {
			t.Errorf("%v: got %d, want %d", a.err, got, a.code)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`[{"id":"1","source":"s","type":"a.b","data":{"callConnectionId":"c","x":[1,{"y":null}]},"specversion":"1.0"}]`,
		` { "id":"1" , "source":"s","type":"t","specversion":"1.0","data":"\u00e9\ud83d\ude00" } `,
		`[]`, `[{}]`, `{"id":1}`, `"\\"`, `[[[`, "{\"\xff\":1}", `{"a":1,"\u0061":2}`, `{"data":{"callConnectionId":7}}`, `"`, `{"a`, `{} []`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		original := string(body)
		events, err := decode(body)
		if string(body) != original {
			t.Fatal("the body was changed")
		}
		var bad *malformedError
		if err != nil {
			if !errors.As(err, &bad) {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		if len(events) == 0 || len(events) > MaxEvents {
			t.Fatalf("%d events", len(events))
		}
		for _, e := range events {
			checkDecoded(t, e.Raw, e.ID, e.Source, e.Type)
		}
	})
}
