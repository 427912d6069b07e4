package resend

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/internal/backoff"
	"github.com/acsbridge/acsbridge/replay"
)

// Pace says how fast messages are sent. The zero value is as fast as the target
// takes them.
type Pace struct {
	Rate  float64 // messages a second; zero means no limit
	Speed float64 // times as fast as they once came; zero does not look at that
}

// catchUp is how much of a delay is made up for, so that timers that are late do
// not slow a rate down. A longer delay is not followed by a burst.
const catchUp = 100 * time.Millisecond

// maxPause is the longest pause that is kept between two messages: a night
// without calls is waited out, a typing error is not.
const maxPause = 24 * time.Hour

// ParsePace reads a pace as people write it: original, fast, 50/s or 10x.
func ParsePace(text string) (Pace, error) {
	switch text {
	case "fast":
		return Pace{}, nil
	case "original":
		return Pace{Speed: 1}, nil
	}
	if number, ok := strings.CutSuffix(text, "/s"); ok {
		if n, ok := positive(number); ok {
			return Pace{Rate: n}, nil
		}
	}
	if number, ok := strings.CutSuffix(text, "x"); ok {
		if n, ok := positive(number); ok {
			return Pace{Speed: n}, nil
		}
	}
	return Pace{}, fmt.Errorf("%q is not a pace; write original, fast, a rate such as 50/s, or a multiple of the original pace such as 10x", text)
}

func positive(number string) (float64, bool) {
	n, err := strconv.ParseFloat(number, 64)
	return n, err == nil && n > 0 && !math.IsInf(n, 0)
}

// pacer keeps a pace.
type pacer struct {
	Pace
	next  time.Time // when the rate allows the next message
	start time.Time // when the first message was sent
	first time.Time // when that one once came
}

// wait returns when it is time for a message, or with ctx.
func (p *pacer) wait(ctx context.Context, m *replay.StoredMessage) error {
	now := time.Now()
	due := now
	if p.Rate > 0 {
		if p.next.IsZero() {
			p.next = now
		}
		if earliest := now.Add(-catchUp); p.next.Before(earliest) {
			p.next = earliest
		}
		due = p.next
		p.next = p.next.Add(time.Duration(float64(time.Second) / p.Rate))
	}
	if p.Speed > 0 {
		came := m.ReceivedAt()
		if p.start.IsZero() {
			p.start, p.first = now, came
		}
		due = p.start.Add(time.Duration(float64(came.Sub(p.first)) / p.Speed))
		if due.Sub(now) > maxPause {
			return fmt.Errorf("sequence %d came %v after the first message; at this pace it would be sent in %v",
				m.Sequence, came.Sub(p.first).Round(time.Second), due.Sub(now).Round(time.Second))
		}
	}
	return backoff.Wait(ctx, due.Sub(now))
}
