// Values move while the mouse does, but the page answers one at a time: the next one sent is always the latest, and it goes out
// when the last was answered, or given up on. Each element that sends has one sender, kept over redraws.
const senders = new WeakMap();
const GIVE_UP_MS = 1000;

function senderOf(parent, setStateValue) {
  let sender = senders.get(parent);
  if (!sender) {
    sender = { sequence: Date.now(), awaited: null, sentAt: 0, next: null };
    senders.set(parent, sender);
  }
  const flush = () => {
    const late = performance.now() - sender.sentAt > GIVE_UP_MS;
    if (!sender.next || (sender.awaited !== null && !late)) return;
    const { value, released, movedAt } = sender.next;
    sender.next = null;
    sender.awaited = ++sender.sequence;
    sender.sentAt = performance.now();
    performance.mark("drag-sent", { detail: { movedAt } });
    setStateValue("moved", { value, released, sequence: sender.awaited });
  };
  sender.push = (value, released, movedAt) => {
    sender.next = { value, released, movedAt };
    flush();
  };
  sender.answered = (sequence) => {
    if (sequence === sender.awaited) sender.awaited = null;
    // Not at once: before the next frame the rest of this answer is drawn, and the mouse says where it is by now.
    requestAnimationFrame(flush);
  };
  return sender;
}
