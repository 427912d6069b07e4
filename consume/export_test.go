package consume

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Collectors returns the metrics of a service.
func Collectors(service string) []prometheus.Collector { return newMetrics(service).collectors() }

// SetInfoInterval changes how often a slot is compared with its consumer, until restore.
func SetInfoInterval(d time.Duration) (restore func()) {
	before := infoInterval
	infoInterval = d
	return func() { infoInterval = before }
}

// SetStaleAfter changes how old an event is before the stream is asked whether its call
// is over, until restore.
func SetStaleAfter(d time.Duration) (restore func()) {
	before := staleAfter
	staleAfter = d
	return func() { staleAfter = before }
}
