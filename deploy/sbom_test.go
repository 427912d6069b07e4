package deploy_test

import (
	"debug/buildinfo"
	"encoding/json"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRelease_SBOM has the bill of materials written of the built binary and compares it
// with what Go wrote into the binary.
func TestRelease_SBOM(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash is not here")
	}
	out, err := exec.Command("../.ci/sbom", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	type property struct{ Name, Value string }
	type component struct {
		Type, Name, Version, Purl string
		Properties                []property
	}
	var got struct {
		BomFormat, SpecVersion string
		Metadata               struct{ Component component }
		Components             []component
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if got.BomFormat != "CycloneDX" || got.SpecVersion != "1.6" || got.Metadata.Component.Name != info.Main.Path {
		t.Errorf("not a document about %s: %+v", info.Main.Path, got.Metadata)
	}
	release := strings.TrimPrefix(strings.Fields(runtime.Version())[0], "go")
	want := []component{{Type: "library", Name: "std", Version: release, Purl: "pkg:golang/std@" + release}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component{Type: "library", Name: m.Path, Version: m.Version, Purl: "pkg:golang/" + m.Path + "@" + m.Version}
		if m.Sum != "" {
			c.Properties = []property{{"go:sum", m.Sum}}
		}
		want = append(want, c)
	}
	if len(want) < 10 {
		t.Fatalf("the binary names only %d modules", len(want)-1)
	}
	if diff := cmp.Diff(want, got.Components); diff != "" {
		t.Errorf("components (-linked +written):\n%s", diff)
	}
}
