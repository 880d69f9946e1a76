"""Every tuned number of the decision path: its unit, and why it is what it is.

What steers reads its numbers here and nowhere else: estimates (tools), and observer, planners,
critic, guard and trial (agents). "Share" is of the step, unless it says of what. "By hand" marks
what follows from no measurement and no other number: the reason says what it has to lie between.
Change one, and compare `rudder bench planners` before and after.
"""

from __future__ import annotations

from rudder.training.control import messages

# -- when numbers differ -----------------------------------------------------------------------

SIGMAS_95 = 1.96
"""Sigmas that hold 95 % of a normal distribution: the width of every interval."""
SIGMAS_SURE = 4.0
"""Sigmas by which one window must differ to be judged alone: once in 16,000 windows by chance."""
SAME_ROWS_SHARE = 0.02
"""Of the rows: less is no difference. Estimates are off by as much (the median of `rudder bench
planners`), so no smaller difference can be predicted."""
CHANGED_ROWS_SHARE = 0.05
"""Of the rows: more is a change of circumstances, or worth a change of settings; also their spread
between windows while too few tell. Twice SAME_ROWS_SHARE and some."""
CHANGED_WAIT_SHARE = 0.02
"""The same of exposed wait. By hand: above HIDDEN_SHARE, below WAITING_SHARE."""
MIN_WAIT_NOISE_MS = 0.02
"""Milliseconds a step: clocks and the scheduler tell nothing finer."""
SAME_CAPACITY_FACTOR = 1.15
"""Capacities nearer than this are the same: rows change by a smaller factor than the capacity, so
by no more than estimates are off."""

# -- when a trainer waits ----------------------------------------------------------------------

HIDDEN_SHARE = 0.01
"""Waiting for less is none: a hundredth of the time is what `--tolerance` gives away by default."""
WAITING_SHARE = 0.05
"""From here on the trainer is said to wait: twice CHANGED_WAIT_SHARE and some."""
WORTH_WAIT_SHARE = 0.1
"""What must be at stake before estimates are confirmed: twice WAITING_SHARE."""
SLOWED_SHARE = 0.15
"""Longer wait at as many rows: the link has slowed. By hand: above WORTH_WAIT_SHARE, which settings
bring, and below CATASTROPHE_SHARE."""
ROUND_WAIT_SHARE = 0.2
"""What one replacement round may have the trainer wait, over a window: below CATASTROPHE_SHARE."""
CATASTROPHE_SHARE = 0.25
"""A trial that makes its trainer wait so much longer is ended by its first window: four windows of
it would cost a whole window. Also of rows: as many more of them."""
JUMP_SHARE = 0.3
"""Waits of other circumstances: what a link of another rate does, and no trial may, for it is above
CATASTROPHE_SHARE."""
STEP_FACTOR = 2.0
"""Steps that take so many times as long, or as short, are of another regime. By hand: on a busy
host windows of the same regime differ by a half."""
PEERS_SHARE = 0.5
"""Of the time that others make this rank wait: what it may use up, and still be ahead of them."""
WIN_PART = 0.5
"""Of the tolerated wait: what a trial should win at the least, or what leaving a knob as it is may
lose at the most. Two such losses one after the other stay within the tolerance."""

# -- windows and batches -----------------------------------------------------------------------

WINDOW_STEPS = messages.WINDOW_STEPS
"""Steps of a window as trainers send them by default."""
MIN_WINDOWS = 2
"""One window alone may be chance: the start of a run or an epoch."""
PRESENT_WINDOWS = 4
"""Windows that tell how things are, and that judge a trial at the most. By hand: at the prior
spread of rows, four windows are exact to 5 % / 2."""
RECENT_WINDOWS = 8
"""Windows that tell how things were lately; also the longest pause between two decisions."""
KEPT_TO_REST = 5
"""Decisions in a row to keep things, 15 windows in all, after which a controller rests where
nothing can be gained: MIN_ROUNDS rounds of replacement take as long."""
REST_WINDOW_S = 1.0
"""Seconds of a window while a controller rests. By hand: taking a window in costs some 1.5 ms, and
a link that slows down should be noticed within a second."""
HOLDS_ALL_WINDOW_S = 4.0
"""The same where the buffer holds every remote row: then no link matters, and only budgets, memory
pressure and people can change anything."""
COST_WINDOWS = 16
"""Windows that tell what a row costs: several settings are among them."""
NOISE_WINDOWS = 32
"""Windows that tell the spread: Student's t is within 4 % of a normal distribution by then."""
MAX_WINDOWS = 256
"""Windows that are kept."""
MAX_BATCHES = 256
"""Batches whose sampled accesses are kept, and looked ahead at: as many steps as a growth takes
to fill and be judged."""
MAX_NODES = 2**20
"""Sampled nodes of all kept batches: 8 MiB."""
MIN_BATCHES = 3 * WINDOW_STEPS
"""Batches that an estimate needs: one window to fill a buffer, and two to count."""
MAX_COUNTED_BATCHES = 128
"""Batches whose rows are counted: half of those kept, the other half fills the buffer."""
BLOCK_BATCHES = 8
"""Batches whose rows are one value for the error of a mean, so that neighbours, which are alike, do
not count twice. By hand: half a window."""
MIN_SAMPLED_NODES = 500
"""Uses that an estimate counts: a share of them is exact to 1 / sqrt(500) = 4.5 %."""
FILLED_SHARE = 0.01
"""Of the capacity: a buffer that grows by less in a window is filled. At 2 %, estimates were
calibrated on buffers that were filling, and off by 9 % (test_simulation.py)."""
FULL_SHARE = 1 - SAME_ROWS_SHARE
"""Of the capacity: a buffer that holds as much is full."""

# -- estimates ---------------------------------------------------------------------------------

PRIOR_ERROR = SAME_ROWS_SHARE
"""Of estimated rows, one sigma, until outcomes tell; under settings that were measured."""
PRIOR_ERROR_UNCALIBRATED = CHANGED_ROWS_SHARE
"""The same while no settled window confirmed the sample."""
GROWTH_ERROR = 0.04
"""The same of growths, beside replays of what then came (`benchmarks/growths.py`)."""
LEAST_EXPECTED_SHARE = 0.2
"""Of the rows before: errors are shares of the rows expected, or of these where fewer are expected.
So an error of 1 % of the rows before counts as 5 %: of a buffer for all rows nearly none are left,
and twice as many are as few."""
LEARN_SHARE = 0.3
"""Of a new error in the mean of past errors: the last three outcomes weigh two thirds."""
MAX_CALIBRATION = 2.0
"""Factor: a sample that is off by more holds other nodes than are used, and is not believed."""
LOOKAHEAD_GROWTH = 4
"""Batches by which a replay looks further ahead with each batch, until it looks ahead as far as the
settings say. By hand: a loader draws while the first rows are fetched."""
WARM_BATCHES = 64
"""Batches before the drawn ones that fill the buffer as it is, and after them that it looks ahead
at. By hand: above LONG_LOOKAHEAD_BATCHES."""
CHANGED_NODES_SHARE = 0.05
"""Of the uses that quarters of the kept batches have in common: where the first and the last one
have so many fewer than neighbours, hot nodes become others. By hand: chance makes up 3 %, and hot
nodes that become others within some epochs 10 % and more."""
JUDGED_STEPS = MIN_BATCHES
"""Steps over which the rows of a growth are counted, once the buffer has settled: as many as a
trial sees."""
APPLIED_AFTER_STEPS = WINDOW_STEPS // 2
"""From a window's end to the change that is decided on it: half a window, as long as deciding
takes."""
FORETOLD_STEPS = JUDGED_STEPS + 2 * WINDOW_STEPS
"""Steps from the change on that are predicted: a trial begins with the next window, and may end a
window late."""
MOST_NODES = 8
"""Times the nodes seen: no more unseen ones are thought of. By hand: bounds the time it takes."""
CHANGES_AT = 1 / 3
"""Of a window that does not tell when its settings came into force: where they do on average."""
MAX_SETTLING_STEPS = 12 * WINDOW_STEPS
"""No trial waits longer for rows to come in: the estimate tells the course until then."""
SETTLING_SLACK = 2.5
"""Times that a grown buffer must be filled: what filled the new slots gives way to what is worth
more (`benchmarks/estimates.py`)."""

# -- what rows cost ----------------------------------------------------------------------------

PRIOR_MS_PER_PULL = 0.3
"""Milliseconds of a pull however few its rows, until windows tell. By hand: between a round trip
within a host and one of a busy network."""
FORGET = 0.5 ** (1 / PRESENT_WINDOWS)
"""Weight of a window against the one after it: links change, so PRESENT_WINDOWS earlier it counts
half."""
IDLE_SHARE, BUSY_SHARE = 0.7, 0.9
"""A loader that works or waits for rows for less does not set the pace; for more, it does; between
the two in part. Queues hide the rest."""
FILLED_PULL_SHARE, FILLED_WAIT_SHARE = 0.6, 0.3
"""Of a window: for so long the loader waits for rows, and the trainer stands still for them, where
rows fill the link; one alone may be a busy processor."""
LEAST_BUSY_SHARE, MOST_BUSY_SHARE = 0.2, 0.9
"""Of the link's time: where rows take less, nothing queues behind them; beyond 0.9 the formula of
processor sharing (1 / (1 - u)) has no steady state to tell of."""

# -- going where others were -------------------------------------------------------------------

SAME_DISTANCE = 0.25
"""Of circumstances: what was reverted that near is not tried again: a quarter of one feature's
usual range. By hand, as LIKE_DISTANCE."""
LIKE_DISTANCE = 0.5
"""Of circumstances: episodes that are further away say nothing on where to look."""
LIKE_LINK_FACTOR = 2.0
"""Times per row that differ by less are of a like link: pulls overlap by that much."""
FAR_FACTOR = 4
"""A lookahead is far from its default below this part of it: one change may shrink no further."""
FEW_ROWS_SHARE = 0.5
"""Of the rows that memory has room for: a trainer that waits with no more of them gets them all
after its first window. By hand: at 0.25, the earlier default, that came three windows later."""
FIRST_LOOKAHEAD_BATCHES = 16
"""Batches: enough to begin with. To draw 40 of them ahead at once takes cores as long as a short
epoch does, while the trainer waits already; the planner may look further ahead later."""

# -- the planner's search ----------------------------------------------------------------------

LONG_LOOKAHEAD_BATCHES = MIN_BATCHES
"""Batches: an estimate has seen no fewer, so that it can tell what the lookahead brings."""
SHORT_LOOKAHEADS = (4, 16)
"""Batches: tried where they turn out to serve as well."""
REPLACEMENT_INTERVAL = 32
"""Batches between rounds: the published Delta (MassiveGNN, arXiv 2410.22697)."""
MAX_ESTIMATES = 10
"""Replays of one decision, which bounds its processor time: HALVINGS, and five for other knobs."""
HALVINGS = 5
"""Of the range of capacities, on a log scale: a hundredfold one comes down to 100 ** (1 / 32):
1.15, which is SAME_CAPACITY_FACTOR."""
MIN_ROUNDS = 4
"""Rounds of replacement that an estimate of rows needs: the first ones fill the buffer."""

# -- the guard and the trial -------------------------------------------------------------------

MAX_GROWTH_FACTOR = 128.0
"""Of one change: from 0.2 % of the halo to the default of a quarter at once."""
MAX_SHRINK_FACTOR = 4.0
"""Of one change: a quarter of the rows stays, so that a wrong one costs no whole buffer."""
FREE_ROWS, FREE_BATCHES = 1024, 64
"""Capacity and lookahead that may be set from any smaller one: neither takes memory that counts."""
TRIAL_STEPS = 6 * WINDOW_STEPS
"""A trial settles and is judged within so many; an observation that is older is of another time."""
COOL_DOWN_STEPS, MAX_COOL_DOWN_STEPS = 2 * WINDOW_STEPS, 2048
"""Steps without changes after a revert, doubled by each further one up to 128 windows, so that
trials that bring nothing come to an end and a changed workload is still noticed."""
MAX_SETTLING_WINDOWS = TRIAL_STEPS // WINDOW_STEPS
"""A change that is no growth is judged after so many, settled or not."""
TURN_STEPS = MAX_BATCHES
"""Steps for which other ranks wait for one that has changed something: a trial is over by then."""
SLOWEST_FIRST_WINDOWS = MIN_WINDOWS
"""Windows for which a rank leaves the turn to ranks that wait longer: these may be content."""
LIKE_ROWS_FACTOR = 1.5
"""Times the rows fetched: ranks that differ by less are in like circumstances. By hand: partitions
of one graph differ by a fifth, and what helps at 1.5 times the rows does not harm."""
REMOTE_ROWS_SHARE = 0.01
"""Of all remote rows: a change of fewer fetched ones is no reason to think again."""
