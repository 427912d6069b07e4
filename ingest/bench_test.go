package ingest

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkDecode reads the body of ACS's median size, and the largest known:
// a roster of 350 participants.
func BenchmarkDecode(b *testing.B) {
	one := fmt.Sprintf(`[{"id":"db189c87","source":"calling/callConnections/08002180","type":"Microsoft.Communication.PlayCompleted","data":{"version":"2025-05-15","operationContext":"menu","resultInformation":{"code":200,"subCode":0,"message":"Action completed successfully."},"callConnectionId":"08002180-d3a7-4e55-bbeb-0887be645341","serverCallId":"%s","correlationId":"88e543e1-51dd-4cce-800b-ea99a6a074c7","publicEventType":"Microsoft.Communication.PlayCompleted"},"time":"2026-03-01T12:00:00.1234567+00:00","specversion":"1.0","datacontenttype":"application/json","subject":"calling/callConnections/08002180"}]`, strings.Repeat("aHR0cHM6", 25))
	participant := `{"identifier":{"kind":"communicationUser","rawId":"8:acs:5aba7c7e-9cdb-44cf-a8bf-237846a00ab7_0000001f-0000-0000-0000-000000000000","communicationUser":{"id":"8:acs:5aba7c7e-9cdb-44cf-a8bf-237846a00ab7_0000001f-0000-0000-0000-000000000000"}},"isMuted":false,"isOnHold":false}`
	roster := `[{"id":"1","source":"s","type":"Microsoft.Communication.ParticipantsUpdated","data":{"callConnectionId":"c","participants":[` + strings.TrimSuffix(strings.Repeat(participant+",", 350), ",") + `],"sequenceNumber":7},"specversion":"1.0"}]`
	for name, body := range map[string]string{"median": one, "roster": roster} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(body)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
