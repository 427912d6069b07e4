package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/bridgetest"
)

// TestProbe_workflow runs the step of the workflow for GitHub Actions, for an application
// that verifies its tokens and one that does not.
func TestProbe_workflow(t *testing.T) {
	ignoreEnvironment(t)
	var workflow struct {
		Jobs struct {
			Probe struct {
				Steps []struct {
					Name, Run string
					Env       map[string]string
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(bridgetest.ReadFile(t, "../../examples/github-actions/probe.yaml")), &workflow); err != nil {
		t.Fatal(err)
	}
	steps := workflow.Jobs.Probe.Steps
	step := steps[len(steps)-1]
	if step.Name != "probe" || step.Env["ACS_AUDIENCE"] != acstest.DemoAudience {
		t.Fatalf("the last step is %+v", step)
	}
	for name, test := range map[string]struct {
		start  string // of the application
		status int
		want   string
	}{
		"verifies": {`acsbridge serve --resource "app=$ACS_AUDIENCE" --issuer "$ACS_ISSUER" --oidc-config-url "$ACS_METADATA_URL" ` +
			`--callback-path /api/callback --data-dir data --listen APP --admin-listen 127.0.0.1:0 --nats-listen 127.0.0.1:0`, 0, "16 of 16 checks passed\n"},
		"does not": {"webhook -listen APP", exitFailed, "3 of 16 checks passed, 13 failed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			addresses := strings.NewReplacer("127.0.0.1:8082", bridgetest.FreeAddress(t), "127.0.0.1:3000", bridgetest.FreeAddress(t))
			npm := "#!/bin/sh\necho $$ >pid\nexec " + strings.Replace(test.start, "APP", addresses.Replace("127.0.0.1:3000"), 1) + " >app.log 2>&1\n"
			if err := os.WriteFile(filepath.Join(dir, "npm"), []byte(npm), 0o700); err != nil {
				t.Fatal(err)
			}
			script := strings.Replace(step.Run, "acsbridge probe ", "acsbridge probe --issuer-listen "+addresses.Replace("127.0.0.1:8082")+" ", 1)
			cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", "trap 'kill -INT $(cat pid) && wait' EXIT\n"+addresses.Replace(script))
			cmd.Dir, cmd.WaitDelay = dir, time.Minute
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "GITHUB_STEP_SUMMARY="+filepath.Join(dir, "summary"))
			for name, value := range step.Env {
				cmd.Env = append(cmd.Env, name+"="+addresses.Replace(value))
			}
			out, err := cmd.CombinedOutput()
			status := 0
			if ended, ok := errors.AsType[*exec.ExitError](err); ok {
				status = ended.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			summary, _ := os.ReadFile(filepath.Join(dir, "summary"))
			if status != test.status || !strings.HasSuffix(string(summary), test.want) || !strings.Contains(string(out), test.want) {
				t.Errorf("status %d, summary:\n%s\noutput:\n%s", status, summary, out)
			}
		})
	}
}

// TestProbe_page: the page describes every check.
func TestProbe_page(t *testing.T) {
	page := bridgetest.ReadFile(t, "../../docs/probe.md")
	for _, name := range acstest.ProbeNames() {
		if !strings.Contains(page, "| `"+name+"` |") {
			t.Errorf("docs/probe.md does not describe %s", name)
		}
	}
}
