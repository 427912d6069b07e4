// Package quiet keeps floods out of the log. What strangers, holders of a token
// or an outage can cause as often as they like is written once a second, so that
// it cannot fill the disk of whoever keeps the log.
package quiet

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Line is one kind of line in the log. The zero value is ready; all methods are
// safe for concurrent use.
type Line struct {
	// Burst is how many more may be written at once, for lines that name different
	// things. Each has its second back later.
	Burst int

	mu   sync.Mutex
	next time.Time
	held int
}

// Allow reports whether the line may be written at a time, and how many were
// held back since the last one was.
func (l *Line) Allow(now time.Time) (ok bool, held int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Add(time.Duration(l.Burst) * time.Second).Before(l.next) {
		l.held++
		return false, 0
	}
	if l.next.Before(now) {
		l.next = now
	}
	l.next = l.next.Add(time.Second)
	held, l.held = l.held, 0
	return true, held
}

// Log writes the line when it may be, with the number of those held back as
// "suppressed".
func (l *Line) Log(logger *slog.Logger, level slog.Level, text string, attrs ...slog.Attr) {
	if ok, held := l.Allow(time.Now()); ok {
		logger.LogAttrs(context.Background(), level, text, append(attrs, slog.Int("suppressed", held))...)
	}
}

// Handler returns a handler that passes on one record a second: for a log whose
// lines are of one kind, such as that of net/http.
func Handler(h slog.Handler) slog.Handler { return handler{h, new(Line)} }

type handler struct {
	slog.Handler
	line *Line
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	ok, held := h.line.Allow(time.Now())
	if !ok {
		return nil
	}
	r.AddAttrs(slog.Int("suppressed", held))
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.line}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.line}
}
