package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/acsbridge/acsbridge/internal/suggest"
)

// envPrefix starts every variable of ours. A variable that has it and is no
// setting is a mistake, most likely of spelling, unless the kubelet made it.
const envPrefix = "ACSBRIDGE_"

// sources finds the settings that are not on the command line, in the
// environment first and then in the YAML file, and remembers where each came
// from. It is a kong resolver.
type sources struct {
	env      map[string]string    // variable → value, empty ones left out
	file     map[string]fileValue // setting → value
	origin   map[string]string    // setting → where it came from
	problems []problem            // variables and keys that are no settings
}

// Origins of a setting that no source has, with a default value and without.
const (
	originDefault = "default"
	originNone    = "not set"
)

// configFile is the file that flag --config names.
func configFile(ctx *kong.Context) string {
	for _, flag := range ctx.Flags() {
		if flag.Name == "config" {
			path, _ := ctx.FlagValue(flag).(string)
			return path
		}
	}
	return ""
}

// newSources reads the environment, and the file at path unless that is empty
// and no variable names one.
func newSources(environ []string, settings []*kong.Flag, path string) *sources {
	s := &sources{env: map[string]string{}, origin: map[string]string{}}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		// Compose files pass ${NAME:-} as an empty variable: that is unset.
		if value != "" {
			s.env[name] = value
		}
	}
	s.checkVariables(settings)
	origin := "flag --config"
	if path == "" {
		path, origin = s.variable("config")
	}
	if path != "" {
		s.readFile(path, origin, settings)
	}
	return s
}

// checkVariables looks for variables of ours that nothing reads.
func (s *sources) checkVariables(settings []*kong.Flag) {
	known := append(EnvNames("config"), WebhookSecret)
	for _, secret := range Secrets {
		known = append(known, EnvNames(secret.Name)...)
	}
	for _, flag := range settings {
		known = append(known, EnvNames(flag.Name)...)
	}
	for _, name := range slices.Sorted(maps.Keys(s.env)) {
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(known, name) && !fromKubelet(name, s.env[name]) {
			s.problems = append(s.problems, problem{
				setting: name, origin: "environment", fault: "no such setting" + closest(name, known),
			})
		}
	}
}

// readFile takes the settings of the file at path. It notes what is wrong with
// the file and goes on: the other sources may have more to say.
func (s *sources) readFile(path, origin string, settings []*kong.Flag) {
	values, problems, err := readYAML(path, settings)
	if err != nil {
		problems = append(problems, problem{setting: "config", origin: origin, fault: err.Error()})
	}
	s.file = values
	s.problems = append(s.problems, problems...)
}

// Validate has nothing to say: what is wrong with the sources is among the
// problems.
func (s *sources) Validate(*kong.Application) error { return nil }

// Resolve returns the value of a flag that is not on the command line, nil
// when no source has one, or one that kong cannot decode: kong would stop at it
// and not say where it came from.
func (s *sources) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if ofCheck(flag) {
		return nil, nil
	}
	value := s.lookUp(flag.Name)
	if text, ok := value.(string); ok {
		scan := kong.Scan().PushTyped(text, kong.FlagValueToken)
		if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, reflect.New(flag.Target.Type()).Elem()); err != nil {
			s.problems = append(s.problems, problem{setting: flag.Name, origin: s.origin[flag.Name], fault: PlainError(err.Error())})
			return nil, nil
		}
	}
	if value == nil && flag.HasDefault {
		s.origin[flag.Name] = originDefault
	}
	return value, nil
}

// lookUp returns the value of a setting, a string or a list of strings, and nil
// when neither the environment nor the file has one.
func (s *sources) lookUp(setting string) any {
	if value, origin := s.variable(setting); value != "" {
		s.origin[setting] = origin
		return value
	}
	if value, ok := s.file[setting]; ok {
		s.origin[setting] = value.origin()
		return value.value
	}
	s.origin[setting] = originNone
	return nil
}

// variable returns the value of a setting's variable and its name.
func (s *sources) variable(setting string) (value, name string) {
	for _, name := range EnvNames(setting) {
		if value := s.env[name]; value != "" {
			return value, name
		}
	}
	return "", ""
}

// originOf says where the value of a setting came from.
func (s *sources) originOf(setting string) string {
	if origin, ok := s.origin[setting]; ok {
		return origin
	}
	return "flag --" + setting // kong resolves only what is not on the command line
}

// EnvNames are the variables of a setting; the first that is set counts. The
// second of a nats-* setting is the one that the nats command reads.
func EnvNames(setting string) []string {
	name := strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
	names := []string{envPrefix + name}
	switch setting {
	case "nats-url", "nats-context", "nats-creds", "nats-nkey", "nats-user",
		"nats-password", "nats-token", "nats-ca", "nats-cert", "nats-key":
		names = append(names, name)
	}
	return names
}

// secretMask stands for a secret wherever one would be printed.
const secretMask = "********"

// Secrets are the settings that have a variable and a key of the file, and are not
// flags: other users of the host can read the command line of a process. A setting
// NAME-file is the setting for a file with the secret.
var Secrets = []struct{ Name, Help string }{
	{"nats-password", "Password of nats-user. Not a flag, since other users of the host can read those."},
	{"nats-token", "Authentication token. Not a flag either."},
	{"console-nats-password", "Password of console-nats-user. Not a flag either."},
	{"console-nats-token", "Authentication token of the NATS login of the console. Not a flag either."},
}

// WebhookSecret is the variable with the secrets of deliver, separated by spaces.
const WebhookSecret = envPrefix + "WEBHOOK_SECRET"

// maxTypos is how far a name may be from the one it was meant to be. kong uses
// the same number for flags.
const maxTypos = 2

// closest returns "; did you mean NAME?" with the nearest of names, or "" when
// none is near.
func closest(name string, names []string) string {
	best, distance := suggest.Nearest(name, names)
	if best == "" || distance > maxTypos {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}
