package resend

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/replay"
)

// Checkpoint is how far a replay is, in a file. The same replay continues there.
type Checkpoint struct {
	Replay   string `json:"replay"` // its id
	What     string `json:"what"`   // source, selection and target, to tell replays apart
	Before   int    `json:"before"` // events before Next
	Complete bool   `json:"complete,omitzero"`

	// Where to continue and where to end: a sequence, or a time.
	Next      uint64    `json:"next,omitzero"`
	NextTime  time.Time `json:"nextTime,omitzero"`
	Until     uint64    `json:"until,omitzero"`
	UntilTime time.Time `json:"untilTime,omitzero"`
}

// LoadCheckpoint reads the checkpoint of a replay. It returns nil when there is no
// file yet. A checkpoint of a replay that is something else, or is complete, is an
// error. Limit is how many events the replay has at most; zero means no limit.
func LoadCheckpoint(path, what string, limit int) (*Checkpoint, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{}
	switch err := json.Unmarshal(text, c); {
	case err != nil:
		return nil, fmt.Errorf("%s is not a checkpoint: %w", path, err)
	case c.What != what:
		return nil, fmt.Errorf("%s is of another replay (%s); take another file, or remove it", path, c.What)
	case c.Complete || limit > 0 && c.Before >= limit:
		return nil, fmt.Errorf("%s says that this replay is complete; remove it to do it again", path)
	}
	return c, nil
}

// Resume changes a selection to what the replay has not done yet.
func (c *Checkpoint) Resume(s *replay.Selection) {
	s.Since = replay.Position{Sequence: c.Next, Time: c.NextTime}
	s.Until = replay.Position{Sequence: c.Until, Time: c.UntilTime}
	if s.Limit > 0 {
		s.Limit -= c.Before
	}
}

// Save writes the checkpoint.
func (c *Checkpoint) Save(path string) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return datadir.ReplaceFile(path, append(text, '\n'))
}
