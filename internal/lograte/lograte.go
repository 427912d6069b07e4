// Package lograte bounds how often one kind of log message is written. Messages
// that senders or an outage can cause without limit are written about once a
// second, so that they cannot fill the disk that keeps the log.
package lograte

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Limiter limits one kind of message to one a second. The zero value is ready;
// all methods are safe for concurrent use.
type Limiter struct {
	// Burst is how many more messages may be written at once, for messages that
	// each name another thing. One more is allowed again after each second.
	Burst int

	mu         sync.Mutex
	next       time.Time
	suppressed int
}

// Allow reports whether the message may be written at the time now, and how many
// were suppressed since the last one that was written.
func (l *Limiter) Allow(now time.Time) (ok bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Add(time.Duration(l.Burst) * time.Second).Before(l.next) {
		l.suppressed++
		return false, 0
	}
	if l.next.Before(now) {
		l.next = now
	}
	l.next = l.next.Add(time.Second)
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}

// Log writes the message unless it is suppressed. The attribute "suppressed" is
// the number of messages that were.
func (l *Limiter) Log(logger *slog.Logger, level slog.Level, text string, attrs ...slog.Attr) {
	if ok, suppressed := l.Allow(time.Now()); ok {
		logger.LogAttrs(context.Background(), level, text, append(attrs, slog.Int("suppressed", suppressed))...)
	}
}

// Handler returns a handler that passes one record a second to h: for a log that
// has one kind of message, such as that of net/http.
func Handler(h slog.Handler) slog.Handler { return handler{h, new(Limiter)} }

type handler struct {
	slog.Handler
	limiter *Limiter
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	ok, suppressed := h.limiter.Allow(time.Now())
	if !ok {
		return nil
	}
	r.AddAttrs(slog.Int("suppressed", suppressed))
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.limiter}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.limiter}
}
