-- Example queries; above each: the file that it is for, its name and its title. An empty :rank
-- stands for all ranks.

-- run ranks: All ranks side by side: hits, wait, rows fetched, decisions
SELECT rank, round(1.0 * sum(hits) / sum(remote_rows), 3) AS hit_share,
       round(1000 * sum(exposed_wait_s) / sum(num_steps), 2) AS wait_ms_per_step,
       round(1.0 * sum(rows_fetched) / sum(num_steps)) AS rows_per_step,
       (SELECT count(*) FROM episodes WHERE rank = windows.rank) AS decisions,
       (SELECT count(*) FROM episodes WHERE rank = windows.rank AND result = 'confirmed')
           AS confirmed
FROM windows GROUP BY rank;

-- run epochs: All ranks together, epoch by epoch, and the slowest of them
SELECT epoch, rank AS slowest_rank, round(max(wall_s), 3) AS slowest_s,
       round(avg(wall_s), 3) AS mean_s,
       round(1.0 * sum(hits) / sum(remote_rows), 3) AS hit_share,
       sum(rows_fetched) AS rows_fetched
FROM (SELECT rank, epoch, sum(wall_s) AS wall_s, sum(hits) AS hits,
             sum(remote_rows) AS remote_rows, sum(rows_fetched) AS rows_fetched
      FROM windows GROUP BY rank, epoch)
GROUP BY epoch ORDER BY epoch;

-- run decisions: Every decision and what it brought
SELECT rank, number, step, planner, decision, result,
       round(rows_before) AS rows_before, round(rows_after) AS rows_after,
       round(wait_ms_before, 2) AS wait_ms_before,
       round(wait_ms_after, 2) AS wait_ms_after, episode_id
FROM episodes WHERE :rank = '' OR rank = :rank ORDER BY rank, number;

-- run log_of_episode: All that the audit log has of a decision
SELECT number, time, kind, agent, tool, outcome, arguments, result
FROM audit WHERE episode_id = :episode_id ORDER BY number;

-- run reverted: What was tried and taken back, and why
SELECT rank, number, step,
       json_patch('{}', json_extract(content, '$.verdict.change')) AS change,
       json_extract(content, '$.outcome.reason') AS reason, episode_id
FROM episodes WHERE result = 'reverted' AND (:rank = '' OR rank = :rank)
ORDER BY rank, number;

-- run prediction_error: How far predictions of rows fetched were off, by planner
SELECT planner, count(rows_error) AS measured_changes,
       round(avg(abs(rows_error)), 3) AS mean_error
FROM episodes WHERE :rank = '' OR rank = :rank GROUP BY planner;

-- run hits_by_epoch: Hit share and exposed wait of each rank, epoch by epoch
SELECT rank, epoch, round(1.0 * sum(hits) / sum(remote_rows), 3) AS hit_share,
       round(1000 * sum(exposed_wait_s) / sum(num_steps), 2) AS wait_ms_per_step
FROM windows WHERE :rank = '' OR rank = :rank GROUP BY rank, epoch;

-- run settings_over_time: From which step on which settings held
SELECT rank, json_extract(result, '$.step') AS since_step, agent, tool,
       json_extract(result, '$.settings.capacity_rows') AS capacity_rows,
       json_extract(result, '$.settings.lookahead_batches') AS lookahead_batches,
       json_extract(result, '$.settings.eviction_threshold') AS eviction_threshold,
       json_extract(result, '$.settings.replacement_interval')
           AS replacement_interval
FROM audit WHERE outcome = 'applied' AND (:rank = '' OR rank = :rank)
ORDER BY rank, number;

-- run calls_by_tool: Calls, refusals and time, by agent and tool
SELECT agent, tool, sum(kind = 'call') AS calls, sum(outcome = 'refused') AS refused,
       round(avg(latency_ms), 2) AS mean_ms
FROM audit WHERE kind IN ('call', 'result') AND (:rank = '' OR rank = :rank)
GROUP BY agent, tool;

-- run tokens: Tokens and waiting by model, and who counted them
SELECT model, tokens_source, count(*) AS calls, sum(input_tokens) AS input_tokens,
       sum(output_tokens) AS output_tokens, round(avg(latency_ms), 1) AS mean_ms
FROM model_calls WHERE :rank = '' OR rank = :rank GROUP BY model, tokens_source;

-- run unanswered: Intents that no effect followed
SELECT rank, number, time, step, tool, arguments FROM audit AS intent
WHERE kind = 'intent' AND (:rank = '' OR rank = :rank) AND NOT EXISTS (
    SELECT 1 FROM audit
    WHERE kind = 'effect' AND rank = intent.rank AND call_id = intent.call_id);

-- memory what_works: What works, by policy: confirmed and reverted, rows saved
SELECT json_extract(workloads.content, '$.policy') AS policy, result,
       count(*) AS episodes, round(avg(1 - rows_after / rows_before), 3) AS rows_saved
FROM episodes JOIN workloads ON workloads.number = episodes.workload
GROUP BY policy, result;

-- memory best_settings: The best settings that each kind of work has come to
SELECT json_extract(workloads.content, '$.policy') AS policy,
       json_extract(workloads.content, '$.num_halo') AS num_halo,
       json_extract(workloads.content, '$.batch_size') AS batch_size,
       round(min(wait_ms_after), 2) AS wait_ms,
       json_patch('{}', json_extract(episodes.content, '$.applied.settings'))
           AS settings, signature
FROM episodes JOIN workloads ON workloads.number = episodes.workload
WHERE result = 'confirmed' GROUP BY signature;
