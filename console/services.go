package console

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/replay"
)

// maxServices is how many services the page shows.
const maxServices = 20

type servicesView struct {
	At       time.Time // when they were read
	Services []serviceRow
	More     int
}

type serviceRow struct {
	*consume.Status
	Age     time.Duration // of the oldest event that is not handled; zero without one
	Problem string        // why there is no status
}

// servicesRest is how many times as long as their reading takes services are shown again
// without another one: a reading goes through the buckets, at some 20 µs an entry, and all
// live pages together take a tenth of the time of one reader.
const servicesRest = 10

// servicesCache has the services that were read last.
type servicesCache struct {
	mu    sync.Mutex // held while they are read
	view  *servicesView
	until time.Time // it is shown again
}

// servicesPage shows the services on package consume.
func (c *Console) servicesPage(r *http.Request) (*page, error) {
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	if began := time.Now(); !began.Before(c.services.until) {
		view := &servicesView{At: began}
		if err := c.read(r.Context(), func(reader *replay.Reader) error {
			began = time.Now()
			return view.read(r.Context(), reader)
		}); err != nil {
			return nil, err
		}
		ended := time.Now()
		c.services.view, c.services.until = view, ended.Add(max(listLife, servicesRest*ended.Sub(began)))
	}
	return &page{Title: "Services", Template: "services", Content: c.services.view, Live: "/live", Commands: []string{"acsbridge consumers"}}, nil
}

// read reads the services and their buckets.
func (v *servicesView) read(ctx context.Context, reader *replay.Reader) error {
	js, err := reader.JetStream(ctx)
	if err != nil {
		return err
	}
	names, err := consume.Services(ctx, js, reader.Stream)
	if err != nil {
		return err
	}
	v.More = max(0, len(names)-maxServices)
	for _, name := range names[:min(maxServices, len(names))] {
		status, err := consume.Inspect(ctx, js, name, reader.Stream)
		if ctx.Err() != nil {
			return ctx.Err() // a page without the others would be shown for long
		}
		row := serviceRow{Status: status}
		switch {
		case err != nil:
			row.Status, row.Problem = &consume.Status{Service: name}, err.Error()
		case !status.Oldest.IsZero():
			row.Age = max(v.At.Sub(status.Oldest), 0)
		}
		v.Services = append(v.Services, row)
	}
	return nil
}
