package embedded_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/acsbridge/acsbridge/publish/embedded"
)

// TestCollector_figures stores one message and has the metrics of the server say so.
func TestCollector_figures(t *testing.T) {
	server, err := embedded.Start(embedded.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(server.Collector())
	conn, err := nats.Connect(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Stream(t.Context(), "MISSING"); err == nil {
		t.Fatal("a stream that was not made is there")
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()[len("acsbridge_embedded_nats_"):]] = f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
	}
	for name, least := range map[string]float64{
		"connections": 1, "connections_max": 1024, "received_messages_total": 3, "received_bytes_total": 1000,
		"sent_messages_total": 3, "sent_bytes_total": 100, "storage_bytes": 1000, "storage_max_bytes": 1 << 20, "api_errors_total": 1,
	} {
		if got[name] < least {
			t.Errorf("%s is %v, want %v or more", name, got[name], least)
		}
	}
	if slow, ok := got["slow_consumers_total"]; !ok || slow != 0 {
		t.Errorf("slow consumers: %v, %v", slow, ok)
	}
}
