package main

import (
	"fmt"
	"time"

	"github.com/acsbridge/acsbridge/ingest"
)

// refusalNotes says what was refused lately, by reason. It turns nothing red: a
// stranger can have anything refused.
func (b *bridge) refusalNotes() (list []note) {
	for _, r := range b.handler.Activity().Refused {
		text := fmt.Sprintf("%s, %d in the last %.0f minutes", r.Reason, r.Count, ingest.RecentRefusals.Minutes())
		if r.Route == "eventgrid" {
			text = "Event Grid: " + text
		}
		if r.Text != "" {
			text += ": " + r.Text
		}
		list = append(list, note{"refused", text})
	}
	return list
}

// lastCallbacks says when callbacks came last, and what became of them.
func (b *bridge) lastCallbacks() string {
	a := b.handler.Activity()
	return fmt.Sprintf("last came %s, stored %s, refused %s", ago(a.LastCallback), ago(a.LastStored), ago(a.LastRefused))
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}
