package config

// Service is what a command has that runs for long beside serve: how it reaches the
// stream, and its own listener for operators. That is not shared with serve, since both
// can run on one host.
type Service struct {
	Reader

	AdminListen string `group:"Operators (HTTP):" help:"Address for /livez, /readyz and /metrics." default:"127.0.0.1:9091" placeholder:"ADDR"`
	adminAccess `group:"Operators (HTTP):"`

	LogFormat string `group:"Process:" help:"text, json, or auto: text on a terminal, else JSON." enum:"auto,text,json" default:"auto" placeholder:"FORMAT"`
	LogLevel  string `group:"Process:" help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL"`

	adminToken string
}

// AdminToken is the token of the admin listener, empty when none is asked for.
func (s *Service) AdminToken() string { return s.adminToken }

// CheckAdmin rejects settings of the admin listener with problems, and reads its token.
func (s *Service) CheckAdmin() error {
	all := &Settings{
		adminSettings: adminSettings{AdminListen: s.AdminListen, adminAccess: s.adminAccess}, sources: s.sources,
	}
	all.checkAdmin()
	if len(all.found) > 0 {
		return Error(all.found)
	}
	s.adminToken = all.adminToken
	return nil
}

// CheckConsole rejects settings of a console with problems, and returns its token.
func (s *Service) CheckConsole(tokenFile string, write, showPII bool) (token string, err error) {
	if err := s.CheckAdmin(); err != nil {
		return "", err
	}
	all := &Settings{
		adminSettings:   adminSettings{AdminListen: s.AdminListen, adminAccess: s.adminAccess},
		consoleSettings: consoleSettings{ConsoleTokenFile: tokenFile, ConsoleWrite: write, ConsoleShowPII: showPII},
		adminToken:      s.adminToken, sources: s.sources,
	}
	all.checkConsole()
	if len(all.found) == 0 && !all.ServesConsole() {
		all.reject("console-token-file", "is missing: --admin-listen can be reached from other hosts, or has a token; openssl rand -hex 32 makes one")
	}
	if len(all.found) > 0 {
		return "", Error(all.found)
	}
	return all.consoleToken, nil
}
