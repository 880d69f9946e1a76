-- Ten example queries; above each: the file that it is for, its name and its title.

-- rank0 decisions: Every decision and what it brought
SELECT number, step, planner, decision, result,
       round(rows_before) AS rows_before, round(rows_after) AS rows_after,
       round(wait_ms_before, 2) AS wait_ms_before,
       round(wait_ms_after, 2) AS wait_ms_after, episode_id
FROM episodes ORDER BY number;

-- rank0 reverted: What was tried and taken back, and why
SELECT number, step,
       json_patch('{}', json_extract(content, '$.verdict.change')) AS change,
       json_extract(content, '$.outcome.reason') AS reason, episode_id
FROM episodes WHERE result = 'reverted' ORDER BY number;

-- rank0 prediction_error: How far predictions of rows fetched were off, by planner
SELECT planner, count(rows_error) AS measured_changes,
       round(avg(abs(rows_error)), 3) AS mean_error
FROM episodes GROUP BY planner;

-- rank0 hits_by_epoch: Hit share and exposed wait, epoch by epoch
SELECT epoch, round(1.0 * sum(hits) / sum(remote_rows), 3) AS hit_share,
       round(1000 * sum(exposed_wait_s) / sum(num_steps), 2) AS wait_ms_per_step
FROM windows GROUP BY epoch ORDER BY epoch;

-- rank0 settings_over_time: From which step on which settings held
SELECT json_extract(result, '$.step') AS since_step, agent, tool,
       json_extract(result, '$.settings.capacity_rows') AS capacity_rows,
       json_extract(result, '$.settings.lookahead_batches') AS lookahead_batches,
       json_extract(result, '$.settings.eviction_threshold') AS eviction_threshold,
       json_extract(result, '$.settings.replacement_interval')
           AS replacement_interval
FROM audit WHERE outcome = 'applied' ORDER BY number;

-- rank0 calls_by_tool: Calls, refusals and time, by agent and tool
SELECT agent, tool, sum(kind = 'call') AS calls, sum(outcome = 'refused') AS refused,
       round(avg(latency_ms), 2) AS mean_ms
FROM audit WHERE kind IN ('call', 'result') GROUP BY agent, tool;

-- rank0 tokens: Tokens and waiting by model, and who counted them
SELECT model, tokens_source, count(*) AS calls, sum(input_tokens) AS input_tokens,
       sum(output_tokens) AS output_tokens, round(avg(latency_ms), 1) AS mean_ms
FROM model_calls GROUP BY model, tokens_source;

-- rank0 unanswered: Intents that no effect followed
SELECT number, time, step, tool, arguments FROM audit AS intent
WHERE kind = 'intent' AND NOT EXISTS (
    SELECT 1 FROM audit WHERE kind = 'effect' AND call_id = intent.call_id);

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
