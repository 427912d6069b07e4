package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// codeBlock matches a block of Go or JavaScript, and the commands of the nats
// command that make a consumer.
var (
	codeBlock    = regexp.MustCompile("(?s)```(?:go|js)\n(.*?)```")
	makeConsumer = regexp.MustCompile(`(?m)^ {4}nats consumer add .*$`)
)

// TestPages_consumersHaveNoTraps checks every consumer in the docs: it sets how much is
// fetched in advance and where it begins, and does not redeliver at once.
func TestPages_consumersHaveNoTraps(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	lacks := func(page, code, shown string, wanted ...string) {
		if !strings.Contains(code, shown) {
			return
		}
		checked++
		for _, word := range wanted {
			if strings.Contains(code, word) {
				return
			}
		}
		t.Errorf("%s shows %s without %s:\n%s", page, shown, strings.Join(wanted, " or "), code)
	}
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range codeBlock.FindAllStringSubmatch(string(text), -1) {
			lacks(page, block[1], ".Consume(", "PullMaxMessages(")
			lacks(page, block[1], ".consume(", "max_messages")
			lacks(page, block[1], "jetstream.ConsumerConfig{", "DeliverPolicy:")
			if strings.Contains(block[1], ".Nak()") || strings.Contains(block[1], ".nak()") {
				t.Errorf("%s shows a bare Nak:\n%s", page, block[1])
			}
		}
		for _, command := range makeConsumer.FindAllString(string(text), -1) {
			lacks(page, command, "consumer add", "--deliver ")
		}
	}
	if checked < 3 {
		t.Errorf("only %d consumers were found in the pages", checked)
	}
}
