package console

import (
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

//go:embed pages/*.html assets/*
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"text": printable, "short": short, "clock": clock, "date": date, "ago": ago, "span": span, "about": about, "plural": pluralInt, "size": size,
	"pathescape": url.PathEscape, "join": strings.Join, "lower": strings.ToLower,
}).ParseFS(files, "pages/*.html"))

// maxText bounds a text from outside on a page, in runes.
const maxText = 400

// printable shows characters that are not graphic by their numbers, such as those that
// reverse the direction of a line.
func printable(text string) string { return bounded(text, maxText) }

func bounded(text string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > most {
			return b.String() + "…"
		}
		if unicode.IsGraphic(r) && r != unicode.ReplacementChar {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// short is the beginning of an id, enough to tell calls apart.
func short(id string) string { return bounded(id, 13) }

// asset answers with a file that pages load.
func (c *Console) asset(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=300")
	http.ServeFileFS(w, r, files, "assets/"+r.PathValue("name"))
}

// target returns a path of this console to go to, "/" for any other.
func target(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(to, "/") ||
		strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") || strings.HasPrefix(to, "/login") {
		return "/"
	}
	return to
}

func loginURL(r *http.Request) string {
	return "/login?to=" + url.QueryEscape(target(r.URL.RequestURI()))
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

func date(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return span(time.Since(t).Round(time.Second)) + " ago"
}

// span is a duration: 1.234s, 3m20s, 2h5m0s.
func span(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// about is a duration in its largest unit: 45 s, 4 min, 31 h, 12 days.
func about(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 96*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	case d < 10*365*24*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	}
	return "years"
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func pluralInt(n int, noun string) string { return plural(uint64(max(n, 0)), noun) }

// size is a number of bytes: 512 B, 1.5 MiB.
func size(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}
