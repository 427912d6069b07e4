package ingest

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	duration  *prometheus.HistogramVec // code
	malformed *prometheus.CounterVec   // reason
	panics    prometheus.Counter
	rejected  *prometheus.CounterVec // reason

	connectionsRejected prometheus.Counter
	http2Errors         prometheus.Counter

	callbackKeys *prometheus.CounterVec // key
	gridKeys     *prometheus.CounterVec // key

	gridDeliveries *prometheus.CounterVec // type
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acsbridge_requests_total",
			Help: "Requests answered, by route (callbacks, eventgrid, livez, other) and status code.",
		}, []string{"route", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "acsbridge_request_duration_seconds",
			Help:    "From the arrival of a callback until its answer, by status code.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"code"}),
		malformed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acsbridge_malformed_total",
			Help: "Verified callbacks and deliveries of Event Grid whose body is not accepted, by reason.",
		}, []string{"reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acsbridge_panics_total",
			Help: "Faults of the bridge itself, answered 500.",
		}),
		connectionsRejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acsbridge_connections_rejected_total",
			Help: "Connections closed at once because their client held a quarter of --max-connections.",
		}),
		http2Errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acsbridge_http2_errors_total",
			Help: "HTTP/2 connections and streams that ended because the client broke the protocol or a limit.",
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acsbridge_rejected_total",
			Help: "Requests rejected by a limit of the edge, by reason.",
		}, []string{"reason"}),
		callbackKeys: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acsbridge_callback_key_total",
			Help: "Requests that came with a good callback key, by its name.",
		}, []string{"key"}),
		gridKeys: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acsbridge_eventgrid_key_total",
			Help: "Deliveries of Event Grid that came with a good key, by its name.",
		}, []string{"key"}),
		gridDeliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acsbridge_eventgrid_deliveries_total",
			Help: "Deliveries of Event Grid with a good proof, by what they are: notification, validation (a handshake), deletion (of a subscription), other.",
		}, []string{"type"}),
	}
}

func (m *metrics) register(reg prometheus.Registerer, h *Handler) {
	if reg == nil {
		return
	}
	// All exist from the start, so that an alert sees the first event.
	for _, code := range codes {
		label := strconv.Itoa(code)
		m.duration.WithLabelValues(label)
		for _, route := range routes {
			m.requests.WithLabelValues(route, label)
		}
	}
	for _, reason := range Reasons() {
		m.malformed.WithLabelValues(string(reason))
	}
	for _, reason := range rejectReasons {
		m.rejected.WithLabelValues(reason)
	}
	for _, key := range h.config.CallbackKeys {
		m.callbackKeys.WithLabelValues(key.Name)
	}
	if h.config.EventGrid != nil {
		for _, key := range h.config.EventGrid.Keys {
			m.gridKeys.WithLabelValues(key.Name)
		}
	}
	for _, kind := range gridDeliveries {
		m.gridDeliveries.WithLabelValues(kind)
	}
	reg.MustRegister(m.requests, m.duration, m.malformed, m.panics, m.rejected, m.connectionsRejected, m.http2Errors, m.callbackKeys, m.gridKeys, m.gridDeliveries)
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("acsbridge_connections", "Connections for callbacks that are open.", func() float64 { return float64(h.connections.Open()) })
	gauge("acsbridge_inflight", "Verified callbacks in flight.", func() float64 { return float64(h.inFlight.InUse()) })
	gauge("acsbridge_last_callback_timestamp_seconds", "When the last callback or delivery of Event Grid came, as Unix time; 0 before the first.", h.lastCallback.seconds)
	gauge("acsbridge_last_stored_timestamp_seconds", "When events were last made durable and answered 200, as Unix time; 0 before the first.", h.lastStored.seconds)
	gauge("acsbridge_last_refused_timestamp_seconds", "When the last callback or delivery of Event Grid was refused, as Unix time; 0 before the first.", h.lastRefused.seconds)
}

// observe counts an answer.
func (m *metrics) observe(route string, code int, reason string, took time.Duration) {
	label := strconv.Itoa(code)
	m.requests.WithLabelValues(route, label).Inc()
	if route == routeCallbacks {
		m.duration.WithLabelValues(label).Observe(took.Seconds())
	}
	if slices.Contains(rejectReasons, reason) {
		m.rejected.WithLabelValues(reason).Inc()
	}
}
