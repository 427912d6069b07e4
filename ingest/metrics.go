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

// Reasons of refusals that are neither verdicts nor limits.
const (
	reasonNotFound   = "not_found"
	reasonMethod     = "method"
	reasonTooLarge   = "too_large"
	reasonMediaType  = "media_type"
	reasonIncomplete = "incomplete"
	reasonSurplus    = "surplus_connection" // before there is a request
)

// Reasons of [turnsAway]: a closed set, used as a metric label.
const (
	reasonSource         = "source_range"
	reasonCallbackKey    = "callback_key"
	reasonGridKey        = "eventgrid_key"
	reasonRefusedClient  = "refused_client"
	reasonBusy           = "busy"
	reasonQuarantineRate = "quarantine_rate"
)

var turnAwayReasons = []string{reasonSource, reasonCallbackKey, reasonGridKey, reasonRefusedClient, reasonBusy, reasonQuarantineRate}

// turnsAway reports whether a reason is a limit of the edge and no verdict about
// token, body or storage.
func turnsAway(reason string) bool { return slices.Contains(turnAwayReasons, reason) }

// metrics of the ingest room. Labels come from closed sets.
type metrics struct {
	requests  *prometheus.CounterVec   // route, code
	duration  *prometheus.HistogramVec // code
	malformed *prometheus.CounterVec   // reason
	panics    prometheus.Counter
	surplus   prometheus.Counter // connections
	broken    prometheus.Counter // HTTP/2

	turnedAway   *prometheus.CounterVec // reason
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
			Help: "Verified callbacks and deliveries of Event Grid that were not what is taken there, by reason.",
		}, []string{"reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acsbridge_panics_total",
			Help: "Faults of the bridge itself, answered 500.",
		}),
		surplus: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acsbridge_surplus_connections_total",
			Help: "Connections closed at once because their client held a quarter of all that there may be.",
		}),
		broken: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acsbridge_http2_errors_total",
			Help: "HTTP/2 connections and streams that were broken off because their client kept no rule.",
		}),
		turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acsbridge_turned_away_total",
			Help: "Requests turned away by a limit of the edge, by reason.",
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
	for _, reason := range turnAwayReasons {
		m.turnedAway.WithLabelValues(reason)
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
	reg.MustRegister(m.requests, m.duration, m.malformed, m.panics, m.surplus, m.broken, m.turnedAway, m.callbackKeys, m.gridKeys, m.gridDeliveries)
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("acsbridge_connections", "Connections for callbacks that are open.", func() float64 { return float64(h.connections.all.Load()) })
	gauge("acsbridge_inflight", "Verified callbacks under way.", func() float64 { return float64(h.places.underWay()) })
	gauge("acsbridge_last_callback_timestamp_seconds", "When the last callback or delivery of Event Grid came, as Unix time; 0 before the first.", h.lastCallback.seconds)
	gauge("acsbridge_last_stored_timestamp_seconds", "When events were last made durable and answered 200, as Unix time; 0 before the first.", h.lastStored.seconds)
	gauge("acsbridge_last_refused_timestamp_seconds", "When the last callback or delivery of Event Grid was refused, as Unix time; 0 before the first.", h.lastRefused.seconds)
}

func (m *metrics) answer(route string, code int, took time.Duration) {
	label := strconv.Itoa(code)
	m.requests.WithLabelValues(route, label).Inc()
	if route == routeCallbacks {
		m.duration.WithLabelValues(label).Observe(took.Seconds())
	}
}
