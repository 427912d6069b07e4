package lograte_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/internal/lograte"
)

func TestLimiter_oneMessageASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		}))
		var limiter, other lograte.Limiter
		for range 3 {
			limiter.Log(logger, slog.LevelWarn, "flood", slog.String("resource", "r"))
		}
		other.Log(logger, slog.LevelInfo, "other")
		time.Sleep(time.Second)
		limiter.Log(logger, slog.LevelWarn, "flood", slog.String("resource", "r"))
		time.Sleep(time.Minute)
		limiter.Log(logger, slog.LevelWarn, "flood", slog.String("resource", "r"))
		want := "level=WARN msg=flood resource=r suppressed=0\n" +
			"level=INFO msg=other suppressed=0\n" +
			"level=WARN msg=flood resource=r suppressed=2\n" +
			"level=WARN msg=flood resource=r suppressed=0\n"
		if diff := cmp.Diff(want, log.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestLimiter_burst(t *testing.T) {
	limiter, now := lograte.Limiter{Burst: 2}, time.Now()
	allowed := func(after time.Duration, tries int) (n int) {
		now = now.Add(after)
		for range tries {
			if ok, _ := limiter.Allow(now); ok {
				n++
			}
		}
		return n
	}
	got := []int{allowed(0, 5), allowed(time.Second, 5), allowed(2*time.Second, 5), allowed(time.Minute, 5)}
	if diff := cmp.Diff([]int{3, 1, 2, 3}, got); diff != "" {
		t.Error(diff)
	}
}

func TestHandler_oneRecordASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		handler := lograte.Handler(slog.NewTextHandler(&log, nil))
		logger, group := slog.New(handler).With("of", "net/http"), slog.New(handler).WithGroup("g")
		for range 5 {
			logger.Warn("flood")
			group.Warn("flood")
		}
		time.Sleep(time.Second)
		logger.Warn("flood")
		got := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(got) != 2 || !strings.HasSuffix(got[0], "of=net/http suppressed=0") || !strings.HasSuffix(got[1], "of=net/http suppressed=9") {
			t.Errorf("got %q", got)
		}
	})
}
