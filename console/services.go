package console

import (
	"net/http"
	"time"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/replay"
)

// maxServices is how many services the page shows.
const maxServices = 20

type servicesView struct {
	Services []serviceRow
	More     int
}

type serviceRow struct {
	*consume.Status
	Age     time.Duration // of the oldest event that is not handled; zero without one
	Problem string        // why there is no status
}

// servicesPage shows the services on package consume. It reads their buckets.
func (c *Console) servicesPage(r *http.Request) (*page, error) {
	v, now := &servicesView{}, time.Now()
	if err := c.read(r.Context(), func(reader *replay.Reader) error {
		js, err := reader.JetStream(r.Context())
		if err != nil {
			return err
		}
		names, err := consume.Services(r.Context(), js, reader.Stream)
		if err != nil {
			return err
		}
		v.More = max(0, len(names)-maxServices)
		for _, name := range names[:min(maxServices, len(names))] {
			status, err := consume.Inspect(r.Context(), js, name, reader.Stream)
			row := serviceRow{Status: status}
			switch {
			case err != nil:
				row.Status, row.Problem = &consume.Status{Service: name}, err.Error()
			case !status.Oldest.IsZero():
				row.Age = max(now.Sub(status.Oldest), 0)
			}
			v.Services = append(v.Services, row)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return &page{Title: "Services", Template: "services", Content: v, Commands: []string{"acsbridge consumers"}}, nil
}
