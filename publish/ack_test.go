package publish

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestReadAck(t *testing.T) {
	for _, c := range []struct {
		data string
		want ack
		err  error
	}{
		{`{"stream":"ACS","seq":17}`, ack{"ACS", 17, false}, nil},
		{`{"stream":"ACS", "seq":17}`, ack{"ACS", 17, false}, nil}, // as older servers write it
		{`{"stream":"ACS","seq":17,"duplicate":true}`, ack{"ACS", 17, true}, nil},
		{`{"stream":"ACS","domain":"edge","seq":17}`, ack{"ACS", 17, false}, nil},
		{`{"stream":"ACSX","seq":17}`, ack{"ACSX", 17, false}, nil},
		{`{"stream":"ACS","seq":}`, ack{}, jetstream.ErrInvalidJSAck},
		{`{"stream":"ACS","seq":+1}`, ack{}, jetstream.ErrInvalidJSAck},
		{`{"stream":"ACS","seq":1`, ack{}, jetstream.ErrInvalidJSAck},
		{`{"stream":"ACS","seq":18446744073709551616}`, ack{}, jetstream.ErrInvalidJSAck},
		{`ACS","seq":17}`, ack{}, jetstream.ErrInvalidJSAck},
		{``, ack{}, jetstream.ErrInvalidJSAck},
		{`{}`, ack{}, nil}, // which judge refuses
	} {
		got, err := readAck(&nats.Msg{Data: []byte(c.data)}, "ACS")
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: got %+v, %v; want %+v, %v", c.data, got, err, c.want, c.err)
		}
	}
	if sequence, ok := readPlainAck([]byte(`{"stream":"ACS","seq":17}`), "ACS"); sequence != 17 || !ok {
		t.Error("the usual answer goes the long way")
	}
	if _, err := readAck(&nats.Msg{Header: nats.Header{"Status": {"503"}}}, "ACS"); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("no responders: got %v", err)
	}
	_, err := readAck(&nats.Msg{Data: []byte(`{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"ACS","seq":0}`)}, "ACS")
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != 10077 {
		t.Errorf("refusal: got %v", err)
	}
}

// Whatever the short way takes, the long way reads the same.
func FuzzReadPlainAck(f *testing.F) {
	f.Add([]byte(`{"stream":"ACS","seq":17}`))
	f.Add([]byte(`{"stream":"ACS","seq":17,"duplicate":true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		sequence, ok := readPlainAck(data, "ACS")
		if !ok {
			return
		}
		var want jetstream.PubAck
		if err := json.Unmarshal(data, &want); err != nil || want.Stream != "ACS" || want.Sequence != sequence || want.Duplicate {
			t.Errorf("%s: got %d, encoding/json has %+v, %v", data, sequence, want, err)
		}
	})
}

func BenchmarkReadAck(b *testing.B) {
	for name, text := range map[string]string{"plain": `{"stream":"ACS","seq":12345678}`, "json": `{"stream":"ACS", "seq":12345678}`} {
		b.Run(name, func(b *testing.B) {
			m := &nats.Msg{Data: []byte(text)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := readAck(m, "ACS"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
