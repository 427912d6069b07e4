package bridge

import (
	"cmp"
	"fmt"

	"github.com/acsbridge/acsbridge/ingest"
)

// note is one thing that is not well although callbacks are taken, as one line of
// /readyz. The line stays until the thing is over.
type note struct{ part, text string }

// notes returns what is not well, part by part. Each part may have several.
func (b *Bridge) notes() []note {
	var all []note
	for _, part := range []func() []note{
		b.natsNotes,
		b.eventGridNotes,
		b.refusalNotes,
		b.subscriptionNotes,
		b.watch.notes,
	} {
		all = append(all, part()...)
	}
	return all
}

// natsNotes says what is not well with NATS and the streams.
func (b *Bridge) natsNotes() []note {
	var list []note
	for _, n := range b.publisher.Status().Notes {
		list = append(list, note{n.Part, n.Text})
	}
	return list
}

// eventGridNotes says why nothing of Event Grid can be verified. That turns no
// callback away, and Event Grid tries for a day.
func (b *Bridge) eventGridNotes() []note {
	if b.gridVerifier == nil {
		return nil
	}
	switch keys := b.gridVerifier.Keys(); {
	case keys.Held == 0 && keys.LastError != nil:
		return []note{{"eventgrid", "no keys: " + keys.LastError.Error()}}
	case keys.Held == 0:
		return []note{{"eventgrid", "no keys yet"}}
	}
	return nil
}

// refusalNotes says what was refused lately, by reason. It turns nothing red: a
// stranger can have anything refused.
func (b *Bridge) refusalNotes() (list []note) {
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

// subscriptionNotes names the subscriptions of Event Grid that were deleted.
func (b *Bridge) subscriptionNotes() (list []note) {
	for _, d := range b.handler.DeletedSubscriptions() {
		list = append(list, note{"eventgrid", fmt.Sprintf(
			"subscription %s of %s was deleted on %s: its events do not come any more; create it again, or restart the bridge if that was meant",
			cmp.Or(d.Name, "(no name)"), d.Resource, d.At.UTC().Format("2006-01-02 15:04Z"))})
	}
	return list
}
