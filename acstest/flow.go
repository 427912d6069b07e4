package acstest

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds of a flow, so that an error in a file cannot stall or flood a run.
const (
	maxSteps  = 1000
	maxPause  = 10 * time.Minute
	maxRepeat = 100
)

//go:embed flows/*.yaml
var flowFiles embed.FS

// Flow is one kind of call, read from a file in flows: which events are sent, in which
// order and pace, and which have a bad token.
type Flow struct {
	Name  string // the file's name without .yaml
	About string // one line
	steps []step
}

// step is one event of a flow.
type step struct {
	After  time.Duration `yaml:"after"`
	Event  string        `yaml:"event"`
	Leg    string        `yaml:"leg"`
	Data   yaml.Node     `yaml:"data"`
	Bearer Bearer        `yaml:"bearer"`
	Repeat int           `yaml:"repeat"`
}

// Flows returns the built-in flows, by name. All but "hostile" are calls as ACS makes
// them.
func Flows() ([]*Flow, error) {
	files, err := fs.Glob(flowFiles, "flows/*.yaml") // sorted
	if err != nil {
		return nil, err
	}
	flows := make([]*Flow, 0, len(files))
	for _, file := range files {
		text, err := flowFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		flow, err := ParseFlow(strings.TrimSuffix(path.Base(file), ".yaml"), text)
		if err != nil {
			return nil, err
		}
		flows = append(flows, flow)
	}
	return flows, nil
}

// NamedFlows returns the flows of these names in this order, or without names all that
// are not hostile.
func NamedFlows(names ...string) ([]*Flow, error) {
	all, err := Flows()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return slices.DeleteFunc(all, (*Flow).Hostile), nil
	}
	flows := make([]*Flow, 0, len(names))
	for _, name := range names {
		i := slices.IndexFunc(all, func(f *Flow) bool { return f.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown flow %q (one of %s)", name, strings.Join(flowNames(all), ", "))
		}
		flows = append(flows, all[i])
	}
	return flows, nil
}

func flowNames(flows []*Flow) []string {
	names := make([]string, 0, len(flows))
	for _, f := range flows {
		names = append(names, f.Name)
	}
	return names
}

// ParseFlow reads a flow and checks all of it, so that it cannot fail later.
func ParseFlow(name string, text []byte) (*Flow, error) {
	var file struct {
		About string `yaml:"about"`
		Steps []step `yaml:"steps"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("flow %s: %w", name, err)
	}
	flow := &Flow{Name: name, About: file.About, steps: file.Steps}
	if err := flow.check(); err != nil {
		return nil, fmt.Errorf("flow %s: %w", name, err)
	}
	return flow, nil
}

func (f *Flow) check() error {
	if f.About == "" {
		return errors.New("about is missing")
	}
	if len(f.steps) == 0 || len(f.steps) > maxSteps {
		return fmt.Errorf("%d steps (1 to %d)", len(f.steps), maxSteps)
	}
	for i, s := range f.steps {
		var err error
		switch {
		case s.After < 0 || s.After > maxPause:
			err = fmt.Errorf("after %v is out of range (0 to %v)", s.After, maxPause)
		case s.Repeat < 0 || s.Repeat > maxRepeat:
			err = fmt.Errorf("repeat %d is out of range (0 to %d)", s.Repeat, maxRepeat)
		default:
			err = s.Bearer.check()
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	_, err := f.script(NewCall(), time.Now(), 1, true)
	return err
}

// Hostile reports whether a step of the flow is sent with a bad token.
func (f *Flow) Hostile() bool {
	return slices.ContainsFunc(f.steps, func(s step) bool { return s.Bearer != BearerGood })
}

// script returns the callbacks of one call of this flow. The time of an event is when it
// is due; speed shortens every pause. Without grid, steps of Event Grid are left out,
// and the next step does not wait for them.
func (f *Flow) script(call *SimCall, start time.Time, speed float64, grid bool) ([]Callback, error) {
	callbacks := make([]Callback, 0, len(f.steps))
	at, left := start, false
	for i, s := range f.steps {
		if left {
			s.After, left = 0, false
		}
		if left = !grid && byGrid(s.Event); left {
			continue
		}
		if s.Leg == "" {
			s.Leg = defaultLeg
		}
		pause := scale(s.After, speed)
		at = at.Add(pause)
		event, err := call.event(s.Event, s.Leg, s.Data, at)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		callback := call.callback(s.Leg, s.Bearer, event)
		callback.After = pause
		callbacks = append(callbacks, callback)
		for range s.Repeat {
			callbacks = append(callbacks, callback.duplicate())
		}
	}
	return callbacks, nil
}

func scale(pause time.Duration, speed float64) time.Duration {
	return time.Duration(float64(pause) / speed)
}
