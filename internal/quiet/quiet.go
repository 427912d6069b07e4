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
	mu   sync.Mutex
	next time.Time
	held int
}

// Allow reports whether the line may be written at a time, and how many were
// held back since the last one was.
func (l *Line) Allow(now time.Time) (ok bool, held int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.next) {
		l.held++
		return false, 0
	}
	l.next = now.Add(time.Second)
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
