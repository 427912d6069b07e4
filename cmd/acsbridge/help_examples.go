package main

// example is a command line for help and the man pages. A long one goes on in a line
// that is indented.
type example struct{ what, command string }

// examples are those of each command, by its path without "acsbridge", and of the
// topics of help.
var examples = map[string][]example{
	"demo": {
		{"calls until Ctrl-C", "acsbridge demo"},
		{"ten calls and a summary; exit status 1 when a number is wrong", "acsbridge demo --calls 10 --quiet"},
	},
	"serve": {
		{"with a NATS server of its own, in acsbridge-data", "acsbridge serve --resource contoso=c3b7d7e8-4a3c-4a0b-9c55-0123456789ab"},
		{"check the configuration and print it", "acsbridge serve --config bridge.yaml --print-config"},
	},
	"check": {
		{"the settings of serve, also while it runs", "acsbridge check --config bridge.yaml"},
		{"with the way from outside in, for a script", "acsbridge check --config bridge.yaml --json --strict\n" +
			"    --url https://calls.example.net/callbacks"},
	},
	"deliver": {
		{"to an application on this machine", "acsbridge deliver --name crm --to http://localhost:7071/api/callbacks\n" +
			"    --allow-private --secret-file crm.secret"},
		{"at the paths of its own callback URLs, with two secrets", "acsbridge deliver --name crm --to https://app.example.net/calls\n" +
			"    --append-path --secret-file new.secret --secret-file old.secret"},
	},
	"console": {
		{"the calls of the demo or bridge that runs here", "acsbridge console"},
		{"for a team, with the login of a viewer", "acsbridge console --admin-listen :9091 --admin-token-file metrics-token\n" +
			"    --console-token-file console-token --nats-context viewer"},
	},
	"drain": {
		{"the data directory of a bridge that is gone", "acsbridge drain --data-dir /mnt/old --nats-url nats://nats.example.net"},
		{"with the settings of that bridge, ten minutes without progress at most", "acsbridge drain --config bridge.yaml --give-up 10m"},
	},
	"health": {
		{"the bridge of this host", "acsbridge health"},
		{"another one, with the details", "acsbridge health --admin bridge:9090 --admin-token-file admin-token"},
	},
	"quarantine": {
		{"the callbacks in quarantine", "acsbridge quarantine list"},
		{"publish what a newer version can read", "acsbridge quarantine redrive --reason not_cloudevents"},
	},
	"quarantine list": {
		{"quarantined callbacks, in the stream", "acsbridge quarantine list"},
		{"events that the stream could not take", "acsbridge quarantine list --dead-letters acsbridge-data/dead-letters.ndjson"},
	},
	"quarantine show": {
		{"the third entry, personal data masked", "acsbridge quarantine show 3"},
		{"with everything", "acsbridge quarantine show 3 --show-pii"},
	},
	"quarantine redrive": {
		{"two entries", "acsbridge quarantine redrive 3 4"},
		{"all dead letters, without a question", "acsbridge quarantine redrive --all --yes --dead-letters dead-letters.ndjson"},
	},
	"quarantine drop": {
		{"one entry", "acsbridge quarantine drop 3"},
		{"all of a reason", "acsbridge quarantine drop --reason conflict"},
	},
	"rights": {
		{"commands for an operator, and an account", "acsbridge rights ivr --type CallConnected --type RecognizeCompleted"},
		{"the account alone, to include in the server's configuration", "acsbridge rights crm --output config > crm.conf"},
		{"other types for a service that is there", "acsbridge rights ivr --output types --type CallConnected | sh"},
	},
	"consumers": {
		{"all services", "acsbridge consumers"},
		{"one, with the owners of its slots", "acsbridge consumers ivr"},
	},
	"consumers list": {
		{"all services, for a script", "acsbridge consumers list --output json"},
		{"one, with the owners of its slots", "acsbridge consumers list ivr"},
	},
	"consumers call": {
		{"where the services are with a call", "acsbridge consumers call 401f3500-5738-4a26-a51f-0123456789ab"},
		{"with the state that one keeps", "acsbridge consumers call 401f3500-5738-4a26-a51f-0123456789ab\n" +
			"    --service ivr --show-pii"},
	},
	"deadletters": {
		{"what service ivr has given up", "acsbridge deadletters list --service ivr"},
		{"give it to that service once more", "acsbridge deadletters redrive --service ivr --reason attempts"},
	},
	"deadletters list": {
		{"the dead letters of a service", "acsbridge deadletters list --service ivr"},
		{"those of a deliver, at another NATS", "acsbridge deadletters list --service crm --nats-url nats://nats:4222"},
	},
	"deadletters show": {
		{"one, personal data masked", "acsbridge deadletters show 3 --service ivr"},
		{"with everything", "acsbridge deadletters show 3 --service ivr --show-pii"},
	},
	"deadletters redrive": {
		{"what would be done with two of them", "acsbridge deadletters redrive 3 4 --service ivr --dry-run"},
		{"all, without a question", "acsbridge deadletters redrive --all --yes --service ivr"},
	},
	"deadletters drop": {
		{"all of a reason", "acsbridge deadletters drop --reason permanent --service ivr"},
		{"one, and let its call go on", "acsbridge deadletters drop 3 --release --service ivr"},
	},
	"tail": {
		{"what comes, until Ctrl-C", "acsbridge tail --follow"},
		{"how calls ended in the last hour, for jq", "acsbridge tail --since 1h --type CallDisconnected --output json"},
	},
	"calls": {
		{"the calls of the last hour", "acsbridge calls --since 1h"},
		{"those that a busy line ended", "acsbridge calls --outcome busy"},
		{"those of one resource, for a script", "acsbridge calls --resource contoso --output json"},
	},
	"call": {
		{"the story of a call, by any of its ids", "acsbridge call 401f3500-5738-4a26-a51f-0123456789ab"},
		{"its events, for jq", "acsbridge call 401f3500-5738-4a26-a51f-0123456789ab --output json"},
	},
	"events": {
		{"all types", "acsbridge events"},
		{"when one comes, and an example", "acsbridge events RecognizeCompleted"},
	},
	"replay": {
		{"a call, to the application on this machine", "acsbridge replay --call 401f3500-5738-4a26-a51f-0123456789ab\n" +
			"    --to http://localhost:7071/api/callbacks"},
		{"an hour, into a file without personal data", "acsbridge replay --since 1h --to file:events.ndjson --redact\n" +
			"    --keep data.operationContext"},
	},
	"listen": {
		{"every new event, to the application on this machine", "acsbridge listen --forward http://localhost:7071/api/callbacks"},
		{"incoming calls, too, as Event Grid delivers them", "acsbridge listen --forward http://localhost:7071/api/callbacks\n" +
			"    --forward-eventgrid http://localhost:7071/api/incomingCall"},
		{"of one resource, from another NATS", "acsbridge listen --resource contoso --nats-context staging\n" +
			"    --forward http://localhost:7071/api/callbacks"},
	},
	"probe": {
		{"a webhook that takes its keys from the probe", "acsbridge probe http://localhost:3000/api/callback"},
		{"one that has Microsoft's issuer fixed in its code", "acsbridge probe --untrusted --audience c3b7d7e8-4a3c-4a0b-9c55-0123456789ab\n" +
			"    https://test.example.net/api/callback"},
	},
	"trigger": {
		{"an event, to the demo that runs", "acsbridge trigger CallConnected"},
		{"another outcome", "acsbridge trigger CallDisconnected --key key.pem\n    --set data.resultInformation.code=486"},
	},
	"simulate": {
		{"calls to the bridge of this host, until Ctrl-C", "acsbridge simulate --key key.pem"},
		{"a hundred, with duplicates and disorder, then a report", "acsbridge simulate --calls 100 --chaos 0.1 --json"},
	},
	"completion": {
		{"for this shell", "source <(acsbridge completion bash)"},
		{"for good", "acsbridge completion fish > ~/.config/fish/completions/acsbridge.fish"},
	},
	"man": {
		{"read a page", "acsbridge man tail | man -l -"},
		{"install all of them", "acsbridge man --dir /usr/local/share/man/man1"},
	},
	"version": {
		{"what runs here", "acsbridge version"},
		{"for a script", "acsbridge version --json"},
	},
	"help": {
		{"the flags of a command", "acsbridge help quarantine redrive"},
		{"the flags of the connection to NATS", "acsbridge help nats"},
	},
	natsTopic: {
		{"a context of the nats command", "acsbridge tail --nats-context staging"},
		{"a server that wants TLS and a credentials file", "acsbridge tail --nats-url tls://nats.example.net --nats-creds reader.creds"},
	},
}
