package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/acsbridge/acsbridge/replay/resend"
)

// lettersPath is the page of the bridge's dead letters: those in its data directory.
const lettersPath = "/deadletters"

func letters(file string) items {
	return items{
		path: lettersPath + "/" + url.PathEscape(filepath.Base(file)), title: "Dead letters of the bridge", file: file,
		command: "acsbridge quarantine", flags: " --dead-letters " + quoted(file),
	}
}

// lettersOf returns the dead-letter file that a request names, or the one that was changed
// last, and links to all of them. Without files the items have no file.
func (c *Console) lettersOf(r *http.Request) (what items, files []link, err error) {
	if c.Bridge == nil {
		return items{}, nil, errNotFound
	}
	paths, err := c.Bridge.DeadLetters()
	if err != nil {
		return items{}, nil, err
	}
	changed := make(map[string]time.Time)
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil { // else it was taken away just now
			changed[path] = info.ModTime()
		}
	}
	slices.SortStableFunc(paths, func(a, b string) int { return changed[b].Compare(changed[a]) })
	name := r.PathValue("file")
	if name == "" && len(paths) > 0 {
		name = filepath.Base(paths[0])
	}
	found := name == ""
	what = items{path: lettersPath, title: letters("").title}
	for _, path := range paths {
		of, base := letters(path), filepath.Base(path)
		files = append(files, link{of.path, base, base == name})
		if base == name {
			what, found = of, true
		}
	}
	if !found {
		return items{}, nil, errNotFound
	}
	return what, files, nil
}

// listLetters fills a view, newest letters first. It reads one letter at a time.
func (i *items) listLetters(before uint64, v *itemsView) error {
	v.Where = "the data directory"
	if i.file == "" {
		return nil
	}
	v.Where = filepath.Base(i.file)
	file, err := resend.OpenDeadLetters(i.file)
	if err != nil {
		return lettersError(err)
	}
	last := uint64(file.Len())
	v.Total = last
	if before > 0 {
		last = min(last, before-1)
	}
	first := last - min(last, itemsPerPage) + 1
	for number := last; number >= first; number-- {
		letter, err := file.Letter(int(number) - 1)
		if err != nil {
			return lettersError(err)
		}
		v.Items = append(v.Items, i.letterRow(letter, number))
	}
	if first > 1 {
		v.Older = i.path + "?before=" + strconv.FormatUint(first, 10)
	}
	return nil
}

// lettersError is errNotFound for a file that was taken away since it was looked for.
func lettersError(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errNotFound
	}
	return err
}

func (i *items) letterRow(letter *resend.DeadLetter, number uint64) itemRow {
	row := i.row(letter.Message)
	row.Number, row.Reason = number, letter.Reason
	return row
}

// letterVersion tells letters of a file apart. Their numbers are those of the lines, and
// change when one is removed.
func letterVersion(letter *resend.DeadLetter) string {
	return letter.Message.Time.UTC().Format(time.RFC3339Nano) + "/" + strconv.FormatUint(letter.Message.Sequence, 10)
}

// showLetter fills a view.
func (c *Console) showLetter(ctx context.Context, what *items, number uint64, v *itemView) error {
	if c.Reader == nil && c.Token == "" {
		return errNoToken // such a console shows no other event
	}
	file, err := resend.OpenDeadLetters(what.file)
	if err != nil {
		return lettersError(err)
	}
	if number > uint64(file.Len()) {
		return errNotFound
	}
	letter, err := file.Letter(int(number) - 1)
	if err != nil {
		return lettersError(err)
	}
	if err := c.showItem(ctx, c.Reader, what, letter.Message, v); err != nil {
		return err
	}
	v.itemRow, v.Version = what.letterRow(letter, number), letterVersion(letter)
	return nil
}

// letterAt reads a letter, when it is still that of a version.
func letterAt(file *resend.DeadLetterFile, number uint64, version string) (*resend.DeadLetter, error) {
	if number <= uint64(file.Len()) {
		letter, err := file.Letter(int(number) - 1)
		if err != nil || letterVersion(letter) == version {
			return letter, err
		}
	}
	return nil, errors.New("this number is another letter by now: look at the list again")
}

// changeLetter does what an operator has confirmed about a letter, as the command does it:
// it claims the file first, which then has another name.
func (c *Console) changeLetter(ctx context.Context, what *items, number uint64, version, action string) (err error) {
	c.letterChanges.Lock()
	defer c.letterChanges.Unlock()
	file, err := resend.OpenDeadLetters(what.file)
	if err != nil {
		return err
	}
	if _, err := letterAt(file, number, version); err != nil {
		return err
	}
	if action == "redrive" && c.Reader == nil {
		return errNoReader
	}
	if err := file.Claim(); err != nil {
		return err
	}
	*what = letters(file.Path)
	letter, err := letterAt(file, number, version)
	if err != nil {
		return err
	}
	if action == "redrive" {
		redrive := &resend.Redrive{Reader: c.Reader, Decode: c.Decode}
		m, err := redrive.Letter(letter.Message)
		if err != nil {
			return err
		}
		if err := redrive.Publish(ctx, m); err != nil {
			return err
		}
	}
	if err := file.Remove(int(number) - 1); err != nil {
		return err
	}
	_, err = file.Close()
	return err
}
