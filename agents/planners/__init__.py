"""Who proposes a change: plain code of several kinds, all behind one protocol."""
