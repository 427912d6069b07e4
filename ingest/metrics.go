package ingest

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Routes: a closed set, used as a metric label.
const (
	routeCallbacks = "callbacks"
	routeEventGrid = "eventgrid"
	routeLivez     = "livez"
	routeOther     = "other"
)

// routes are all routes.
var routes = []string{routeCallbacks, routeEventGrid, routeLivez, routeOther}

// codes are the status codes of all answers.
var codes = []int{200, 400, 401, 403, 404, 405, 413, 415, 500, 503}

// rejectReasons are the limits of the edge, in contrast to the verdicts about token,
// body or storage.
var rejectReasons = []string{reasonSource, reasonCallbackKey, reasonGridKey, reasonRefusedClient, reasonBusy, reasonQuarantineRate}

// metrics of the ingest room. Labels come from closed sets.
type metrics struct {
	requests  *prometheus.CounterVec   // route, code
	duration  *prometheus.HistogramVec // route, code
	malformed *prometheus.CounterVec   // reason
	panics    prometheus.Counter
	rejected  *prometheus.CounterVec // reason

	connectionsRejected prometheus.Counter
	http2Errors         prometheus.Counter

	callbackKeys *prometheus.CounterVec // key
	gridKeys     *prometheus.CounterVec // key

	gridDeliveries *prometheus.CounterVec // type
}

// newMetrics registers the metrics of a handler. All series exist from the start, so
// that an alert sees the first event.
func newMetrics(reg prometheus.Registerer, h *Handler) *metrics {
	factory := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return factory.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	counters := func(name, help, label string, values ...string) *prometheus.CounterVec {
		c := factory.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			c.WithLabelValues(value)
		}
		return c
	}
	gauge := func(name, help string, value func() float64) {
		factory.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	var malformed, callbackKeys, gridKeys []string
	for _, reason := range Reasons() {
		malformed = append(malformed, string(reason))
	}
	for _, key := range h.config.CallbackKeys {
		callbackKeys = append(callbackKeys, key.Name)
	}
	if h.config.EventGrid != nil {
		for _, key := range h.config.EventGrid.Keys {
			gridKeys = append(gridKeys, key.Name)
		}
	}
	m := &metrics{
		requests: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "acsbridge_requests_total",
			Help: "Requests answered, by route (callbacks, eventgrid, livez, other) and status code.",
		}, []string{"route", "code"}),
		duration: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "acsbridge_request_duration_seconds",
			Help:    "From the arrival of a callback or delivery until its answer, by route and status code.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"route", "code"}),
		malformed:           counters("acsbridge_malformed_total", "Verified callbacks and deliveries of Event Grid whose body is not accepted, by reason.", "reason", malformed...),
		panics:              counter("acsbridge_panics_total", "Faults of the bridge itself, answered 500."),
		rejected:            counters("acsbridge_rejected_total", "Requests rejected by a limit of the edge, by reason.", "reason", rejectReasons...),
		connectionsRejected: counter("acsbridge_connections_rejected_total", "Connections closed at once because their client held a quarter of --max-connections."),
		http2Errors:         counter("acsbridge_http2_errors_total", "HTTP/2 connections and streams that ended because the client broke the protocol or a limit."),
		callbackKeys:        counters("acsbridge_callback_key_total", "Requests that came with a good callback key, by its name.", "key", callbackKeys...),
		gridKeys:            counters("acsbridge_eventgrid_key_total", "Deliveries of Event Grid that came with a good key, by its name.", "key", gridKeys...),
		gridDeliveries: counters("acsbridge_eventgrid_deliveries_total", "Authenticated deliveries of Event Grid, by type: notification, validation (a handshake), deletion (of a subscription), other.",
			"type", gridDeliveries...),
	}
	for _, code := range codes {
		label := strconv.Itoa(code)
		m.duration.WithLabelValues(routeCallbacks, label)
		if h.grid != nil {
			m.duration.WithLabelValues(routeEventGrid, label)
		}
		for _, route := range routes {
			m.requests.WithLabelValues(route, label)
		}
	}
	gauge("acsbridge_connections", "Open connections for callbacks.", func() float64 { return float64(h.connections.Open()) })
	gauge("acsbridge_connections_max", "Open connections at most (--max-connections); more of them wait.", func() float64 { return float64(h.config.MaxConnections) })
	gauge("acsbridge_inflight", "Verified callbacks in flight.", func() float64 { return float64(h.inFlight.InUse()) })
	gauge("acsbridge_inflight_max", "Verified callbacks in flight at most (--max-in-flight); more of them get 503.", func() float64 { return float64(h.config.MaxInFlight) })
	gauge("acsbridge_last_callback_timestamp_seconds", "When the last callback or delivery came, as Unix time; 0 before the first.", h.lastCallback.seconds)
	gauge("acsbridge_last_stored_timestamp_seconds", "When events were last made durable and answered 200, as Unix time; 0 before the first.", h.lastStored.seconds)
	gauge("acsbridge_last_refused_timestamp_seconds", "When the last callback or delivery was refused, as Unix time; 0 before the first.", h.lastRefused.seconds)
	return m
}
