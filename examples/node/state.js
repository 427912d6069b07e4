// apply returns the state of a call with one more event, or the same object when the
// event changes nothing. The order and number of events do not matter: ACS promises
// neither.
//
// The members that it reads are those of docs/events.md; every one may be absent.
export function apply(state, { type, data }) {
  switch (type.slice(type.lastIndexOf(".") + 1)) {
    case "CallConnected":
      return state.connected ? state : { ...state, connected: true };
    case "ParticipantsUpdated":
      // Rosters can come in another order; gaps in their numbers are normal.
      if (!(data?.sequenceNumber > (state.sequence ?? -1))) return state;
      return { ...state, sequence: data.sequenceNumber, participants: data.participants?.length ?? 0 };
    case "CallDisconnected": {
      const result = data?.resultInformation;
      const ended = result ? `${result.code}/${result.subCode}` : "without a reason";
      return state.ended === ended ? state : { ...state, ended };
    }
  }
  return state;
}
