package publish

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestAcks_read(t *testing.T) {
	here := place{stream: "ACS"}
	edge := place{"ACS", "edge"}
	for _, c := range []struct {
		of   place
		data string
		want ack
		err  error
	}{
		{here, `{"stream":"ACS","seq":17}`, ack{here, 17, false}, nil},
		{here, `{"stream":"ACS", "seq":17}`, ack{here, 17, false}, nil}, // as older servers write it
		{here, `{"stream":"ACS","seq":17,"duplicate":true}`, ack{here, 17, true}, nil},
		{edge, `{"stream":"ACS","domain":"edge","seq":17}`, ack{edge, 17, false}, nil},
		{edge, `{"stream":"ACS","domain":"edge","seq":17,"duplicate":true}`, ack{edge, 17, true}, nil},
		{here, `{"stream":"ACS","domain":"edge","seq":17}`, ack{edge, 17, false}, errForeign},
		{edge, `{"stream":"ACS","seq":17}`, ack{here, 17, false}, errForeign},
		{edge, `{"stream":"ACS","domain":"hub","seq":17}`, ack{place{"ACS", "hub"}, 17, false}, errForeign},
		{here, `{"stream":"ACSX","seq":17}`, ack{place{stream: "ACSX"}, 17, false}, errForeign},
		{here, `{"stream":"ACS","seq":0}`, ack{here, 0, false}, errForeign},
		{here, `{"stream":"ACS","seq":}`, ack{}, errForeign},
		{here, `{"stream":"ACS","seq":+1}`, ack{}, errForeign},
		{here, `{"stream":"ACS","seq":1`, ack{}, errForeign},
		{here, `{"stream":"ACS","seq":18446744073709551616}`, ack{}, errForeign},
		{here, `ACS","seq":17}`, ack{}, errForeign},
		{here, ``, ack{}, errForeign},
		{here, `{}`, ack{}, errForeign},
		{here, `{"error":{"code":503,"err_code":10077},"stream":"OTHER","seq":0}`, ack{place: place{stream: "OTHER"}}, errForeign},
	} {
		reader := acksOf(c.of)
		got, err := reader.read(&nats.Msg{Data: []byte(c.data)})
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s of %s: got %+v, %v; want %+v, %v", c.data, c.of, got, err, c.want, c.err)
		}
	}
	reader := acksOf(here)
	if sequence, ok := reader.readPlain([]byte(`{"stream":"ACS","seq":17}`)); sequence != 17 || !ok {
		t.Error("the usual answer goes the long way")
	}
	inDomain := acksOf(edge)
	if sequence, ok := inDomain.readPlain([]byte(`{"stream":"ACS","domain":"edge","seq":17}`)); sequence != 17 || !ok {
		t.Error("the usual answer in a domain goes the long way")
	}
	if _, err := reader.read(&nats.Msg{Header: nats.Header{"Status": {"503"}}}); !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("no responders: got %v", err)
	}
	_, err := reader.read(&nats.Msg{Data: []byte(`{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"ACS","seq":0}`)})
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != 10077 {
		t.Errorf("refusal: got %v", err)
	}
}

// What the short way takes, the long way reads the same.
func FuzzReadPlainAck(f *testing.F) {
	f.Add([]byte(`{"stream":"ACS","seq":17}`))
	f.Add([]byte(`{"stream":"ACS","domain":"edge","seq":17}`))
	f.Add([]byte(`{"stream":"ACS","seq":17,"duplicate":true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, p := range []place{{stream: "ACS"}, {"ACS", "edge"}} {
			reader := acksOf(p)
			sequence, ok := reader.readPlain(data)
			if !ok {
				continue
			}
			var want jetstream.PubAck
			if err := json.Unmarshal(data, &want); err != nil || want.Stream != p.stream || want.Domain != p.domain || want.Sequence != sequence || want.Duplicate {
				t.Errorf("%s: got %d, encoding/json has %+v, %v", data, sequence, want, err)
			}
		}
	})
}

func BenchmarkReadAck(b *testing.B) {
	for name, text := range map[string]string{"plain": `{"stream":"ACS","seq":12345678}`, "json": `{"stream":"ACS", "seq":12345678}`} {
		b.Run(name, func(b *testing.B) {
			m := &nats.Msg{Data: []byte(text)}
			reader := acksOf(place{stream: "ACS"})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := reader.read(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
