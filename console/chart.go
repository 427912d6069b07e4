package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Measures of the charts, in units of their viewBox.
const (
	chartWidth, chartHeight = 600, 120
	chartMinutes            = 60
)

// chart is a small chart of the last hour, as SVG.
type chart struct {
	Label string // what it shows, for those who do not see it
	Bars  []bar
	Line  string // points of a polyline
	Most  string // the value at its top
}

type bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
}

// statusClass is the class of the colour of a status.
func statusClass(status int) string {
	switch {
	case status < 400:
		return "good"
	case status < 500:
		return "refused"
	}
	return "failed"
}

var statusClasses = []string{"good", "refused", "failed"}

// answersChart has a bar for each minute, with the answers of each class.
func answersChart(samples []sample) chart {
	end := samples[len(samples)-1].at
	minutes := make([]map[string]uint64, chartMinutes)
	for i := range minutes {
		minutes[i] = make(map[string]uint64)
	}
	for i := 1; i < len(samples); i++ {
		minute := chartMinutes - 1 - int(end.Sub(samples[i].at)/time.Minute)
		if minute < 0 {
			continue
		}
		for status, count := range samples[i].answers {
			if before := samples[i-1].answers[status]; count > before {
				minutes[minute][statusClass(status)] += count - before
			}
		}
	}
	most, sums := uint64(1), make(map[string]uint64)
	for _, minute := range minutes {
		sum := uint64(0)
		for class, n := range minute {
			sum += n
			sums[class] += n
		}
		most = max(most, sum)
	}
	c := chart{Most: fmt.Sprintf("%d a minute", most)}
	c.Label = fmt.Sprintf("Answers of the last hour: %d good, %d refused, %d failed; at most %s", sums["good"], sums["refused"], sums["failed"], c.Most)
	const width = float64(chartWidth) / chartMinutes
	for i, minute := range minutes {
		y, when := float64(chartHeight), fmt.Sprintf("%d min ago", chartMinutes-1-i)
		if i == chartMinutes-1 {
			when = "last minute"
		}
		for _, class := range statusClasses {
			n := minute[class]
			if n == 0 {
				continue
			}
			h := float64(n) / float64(most) * chartHeight
			y -= h
			c.Bars = append(c.Bars, bar{float64(i) * width, y, width - 1, h, class, fmt.Sprintf("%s: %d %s", when, n, class)})
		}
	}
	return c
}

// fillChart is the fill of the journal.
func fillChart(samples []sample, most int64) chart {
	end := samples[len(samples)-1].at
	highest := slices.MaxFunc(samples, func(a, b sample) int { return cmp.Compare(a.bytes, b.bytes) }).bytes
	// A journal of 1 GiB with a few KiB in it is a line at the bottom on any scale.
	top := min(most, max(2*highest, most/100))
	c := chart{Most: size(top), Label: fmt.Sprintf("Fill of the journal in the last hour: at most %s of %s", size(highest), size(most))}
	var points []string
	for _, s := range samples {
		x := chartWidth - end.Sub(s.at).Minutes()/chartMinutes*chartWidth
		y := chartHeight - float64(s.bytes)/float64(max(top, 1))*chartHeight
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, max(y, 1)))
	}
	c.Line = strings.Join(points, " ")
	return c
}
