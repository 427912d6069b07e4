package embedded

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nats-io/nats-server/v2/server"
)

// figure is one metric of the server, read from what its monitoring endpoint /varz says.
type figure struct {
	description *prometheus.Desc
	kind        prometheus.ValueType
	value       func(*server.Varz) float64
}

// figures are the metrics of the server.
var figures = []figure{
	gauge("connections", "Client connections of the embedded NATS server, that of the bridge included.", func(v *server.Varz) float64 { return float64(v.Connections) }),
	gauge("connections_max", "Client connections that the embedded NATS server takes at most.", func(v *server.Varz) float64 { return float64(v.MaxConn) }),
	counter("slow_consumers_total", "Clients of the embedded NATS server that it disconnected because they did not read fast enough.", func(v *server.Varz) float64 { return float64(v.SlowConsumers) }),
	counter("received_messages_total", "Messages that the embedded NATS server received from clients.", func(v *server.Varz) float64 { return float64(v.InMsgs) }),
	counter("received_bytes_total", "Bytes of messages that the embedded NATS server received from clients.", func(v *server.Varz) float64 { return float64(v.InBytes) }),
	counter("sent_messages_total", "Messages that the embedded NATS server sent to clients.", func(v *server.Varz) float64 { return float64(v.OutMsgs) }),
	counter("sent_bytes_total", "Bytes of messages that the embedded NATS server sent to clients.", func(v *server.Varz) float64 { return float64(v.OutBytes) }),
	gauge("storage_bytes", "Bytes of the streams of the embedded NATS server.", ofStreams(func(s *server.JetStreamStats) uint64 { return s.Store })),
	gauge("storage_max_bytes", "Bytes that the streams of the embedded NATS server may have: three quarters of what the disk had free at its start, and of its own streams.",
		func(v *server.Varz) float64 {
			if v.JetStream.Config == nil {
				return 0
			}
			return float64(v.JetStream.Config.MaxStore)
		}),
	counter("api_errors_total", "Requests to JetStream that the embedded NATS server answered with an error.", ofStreams(func(s *server.JetStreamStats) uint64 { return s.API.Errors })),
}

func gauge(name, help string, value func(*server.Varz) float64) figure {
	return figure{prometheus.NewDesc("acsbridge_embedded_nats_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

func counter(name, help string, value func(*server.Varz) float64) figure {
	f := gauge(name, help, value)
	f.kind = prometheus.CounterValue
	return f
}

// ofStreams reads a figure of JetStream, zero while it does not run.
func ofStreams(value func(*server.JetStreamStats) uint64) func(*server.Varz) float64 {
	return func(v *server.Varz) float64 {
		if v.JetStream.Stats == nil {
			return 0
		}
		return float64(value(v.JetStream.Stats))
	}
}

// Collector returns the server's metrics, acsbridge_embedded_nats_*.
func (s *Server) Collector() prometheus.Collector { return collector{s} }

type collector struct{ server *Server }

func (c collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, f := range figures {
		descriptions <- f.description
	}
}

func (c collector) Collect(metrics chan<- prometheus.Metric) {
	v, err := c.server.Varz(nil)
	if err != nil { // it has no way to fail; without figures, an alert on their absence can
		return
	}
	for _, f := range figures {
		metrics <- prometheus.MustNewConstMetric(f.description, f.kind, f.value(v))
	}
}
