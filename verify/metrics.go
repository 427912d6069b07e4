package verify

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Values of the result label.
const (
	resultAccepted  = "accepted"
	resultRefused   = "refused"
	resultNoVerdict = "no_verdict"
)

// metrics are the package's metrics. All label values come from closed sets and
// exist from the start, so that a rate sees the first refusal.
type metrics struct {
	ok        prometheus.Counter
	noVerdict prometheus.Counter
	refused   map[Reason]prometheus.Counter
	age       prometheus.Histogram
	ahead     prometheus.Counter
	unknown   prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer, keys *keyring, reuse *reuse) *metrics {
	auto := promauto.With(registerer)
	verdicts := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "acsbridge_verify_total",
		Help: "Verdicts on tokens. A token_reused verdict is counted by acsbridge_token_reused_total alone.",
	}, []string{"result", "reason"})
	m := &metrics{
		ok:        verdicts.WithLabelValues(resultAccepted, ""),
		noVerdict: verdicts.WithLabelValues(resultNoVerdict, KeysUnavailable),
		refused:   map[Reason]prometheus.Counter{},
		age: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "acsbridge_token_age_seconds",
			Help:    "Age of accepted tokens by their iat; 0 when it is ahead.",
			Buckets: []float64{1, 2, 5, 10, 30, 60, 300},
		}),
		ahead:   auto.NewCounter(prometheus.CounterOpts{Name: "acsbridge_token_issued_ahead_total", Help: "Accepted tokens whose iat was more than a second ahead."}),
		unknown: auto.NewCounter(prometheus.CounterOpts{Name: "acsbridge_token_unknown_header_members_total", Help: "Header members of accepted tokens that this version ignores."}),
	}
	for _, reason := range reasons {
		if reason != TokenReused {
			m.refused[reason] = verdicts.WithLabelValues(resultRefused, string(reason))
		}
	}
	registerReuse(auto, reuse)
	registerKeys(auto, keys)
	return m
}

func registerReuse(auto promauto.Factory, r *reuse) {
	read := func(field *int) func() float64 {
		return func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return float64(*field)
		}
	}
	auto.NewCounterFunc(prometheus.CounterOpts{Name: "acsbridge_token_reused_total", Help: "Tokens that came again with another body."}, read(&r.reused))
	auto.NewCounterFunc(prometheus.CounterOpts{Name: "acsbridge_token_bindings_forgotten_total", Help: "Tokens forgotten before they expired, because too many were remembered."}, read(&r.forgotten))
	auto.NewGaugeFunc(prometheus.GaugeOpts{Name: "acsbridge_token_bindings", Help: "Tokens remembered with the body they came with."}, read(&r.held))
	auto.NewGaugeFunc(prometheus.GaugeOpts{Name: "acsbridge_token_bindings_max", Help: "Tokens remembered at most; more make the bridge forget others early."}, read(&r.limit))
}

func registerKeys(auto promauto.Factory, k *keyring) {
	auto.NewGaugeFunc(prometheus.GaugeOpts{Name: "acsbridge_jwks_age_seconds", Help: "Age of the issuer's keys, or time since the start while none were fetched."}, func() float64 { return k.age().Seconds() })
	auto.NewGaugeFunc(prometheus.GaugeOpts{Name: "acsbridge_jwks_keys", Help: "Keys that tokens are checked with."}, func() float64 { return float64(k.status().Held) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{Name: "acsbridge_jwks_skipped_keys", Help: "Keys of the issuer's key set that are not usable."}, func() float64 {
		if set := k.current.Load(); set != nil {
			return float64(len(set.skipped))
		}
		return 0
	})
	refreshes := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "acsbridge_jwks_refresh_total",
		Help: "Fetches of the issuer's keys, by outcome.",
	}, []string{"outcome"})
	ok, failed := refreshes.WithLabelValues("ok"), refreshes.WithLabelValues("failed")
	k.outcome = func(good bool) {
		if good {
			ok.Inc()
		} else {
			failed.Inc()
		}
	}
}
