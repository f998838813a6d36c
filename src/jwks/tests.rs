//! When keys are fetched, and what a request is told meanwhile. Time stands still unless a test
//! waits.

use std::collections::VecDeque;

use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::config::KeysUrl;
use crate::jwt::KeySetError;
use crate::jwt::tests::signing::{SigningKey, jwks};

type Answer = Result<KeySet, FetchError>;

type Answers = VecDeque<fn() -> Answer>;

/// A source whose fetches take 100 ms and end as told, the last answer again and again.
struct Run {
    source: Arc<Source>,
    started: Instant,
    fetches: Arc<Mutex<Vec<Duration>>>,
    answers: Arc<Mutex<Answers>>,
    _task: AbortOnDropHandle<Infallible>,
}

fn keys(id: &str) -> Answer {
    Ok(KeySet::parse(jwks(&[&SigningKey::ec(id)]).as_bytes()).unwrap())
}

fn old() -> Answer {
    keys("old")
}

fn new() -> Answer {
    keys("new")
}

fn down() -> Answer {
    Err(FetchError::NotKeys {
        url: "https://issuer.example/".to_owned(),
        error: KeySetError::NotAKeySet,
    })
}

impl Run {
    fn start(answers: &[fn() -> Answer]) -> Self {
        let place = KeysPlace {
            url: KeysUrl::parse("https://issuer.example/keys").unwrap(),
            issuer: None,
            tls: None,
        };
        let source = Source::new(&place);
        let started = Instant::now();
        let fetches = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let task = tokio::spawn({
            let (source, fetches) = (Arc::clone(&source), Arc::clone(&fetches));
            let answers = Arc::clone(&answers);
            async move {
                let fetch = async || {
                    fetches.lock().unwrap().push(started.elapsed());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let mut answers = answers.lock().unwrap();
                    let answer = answers[0];
                    if answers.len() > 1 {
                        answers.pop_front();
                    }
                    answer()
                };
                source.run_with(fetch).await
            }
        });
        Self {
            source,
            started,
            fetches,
            answers,
            _task: AbortOnDropHandle::new(task),
        }
    }

    async fn at(&self, seconds: u64) {
        sleep_until(self.started + Duration::from_secs(seconds)).await;
    }

    /// What a token that names a key is told: whether the keys have it.
    async fn ask(&self, key_id: &str) -> Result<bool, Unavailable> {
        let keys = self.source.keys_for(Some(key_id)).await;
        keys.map(|keys| keys.has(Some(key_id)))
    }

    /// The seconds at which fetches began.
    fn fetched(&self) -> Vec<u64> {
        self.fetches
            .lock()
            .unwrap()
            .iter()
            .map(Duration::as_secs)
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_first_keys() {
    let run = Run::start(&[old]);
    assert_eq!(run.ask("old").await, Ok(true));
    assert_eq!(run.started.elapsed(), Duration::from_millis(100));
    assert_eq!(run.fetched(), [0]);
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_again_after_some_minutes() {
    let run = Run::start(&[old]);
    run.at(3600).await;
    let fetched = run.fetched();
    assert!((7..=12).contains(&fetched.len()), "{fetched:?}");
    for pair in fetched.windows(2) {
        assert!((300..=601).contains(&(pair[1] - pair[0])), "{fetched:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_costs_a_wait_and_no_request() {
    let run = Run::start(&[old, new]);
    run.at(60).await;
    assert_eq!(run.ask("new").await, Ok(true));
    assert_eq!(run.fetched(), [0, 60]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_used_just_after_a_fetch_is_unavailable_until_the_next_one() {
    let run = Run::start(&[old, new]);
    run.at(1).await;
    assert_eq!(run.ask("new").await, Err(Unavailable), "at once");
    assert_eq!(run.started.elapsed(), Duration::from_secs(1));
    run.at(29).await;
    assert_eq!(run.ask("new").await, Err(Unavailable));
    run.at(31).await;
    assert_eq!(run.ask("new").await, Ok(true));
    assert_eq!(run.fetched(), [0, 30]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_issuer_does_not_have_is_held_against_the_token_after_a_later_fetch() {
    let run = Run::start(&[old]);
    run.at(60).await;
    assert_eq!(run.ask("unknown").await, Err(Unavailable), "too soon");
    assert_eq!(run.fetched(), [0, 60]);
    run.at(91).await;
    for second in 91..180 {
        run.at(second).await;
        assert_eq!(run.ask("unknown").await, Ok(false));
    }
    assert_eq!(run.fetched(), [0, 60, 90], "it is asked for twice");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_an_issuer_shows_late_costs_no_token() {
    let run = Run::start(&[old, old, new]);
    run.at(60).await;
    assert_eq!(run.ask("new").await, Err(Unavailable));
    run.at(91).await;
    assert_eq!(run.ask("new").await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_fetched_are_unavailable_and_retried() {
    let run = Run::start(&[down]);
    assert_eq!(run.ask("old").await, Err(Unavailable));
    run.at(300).await;
    assert_eq!(run.ask("old").await, Err(Unavailable));
    let fetched = run.fetched();
    assert!((9..=14).contains(&fetched.len()), "{fetched:?}");
    run.answers.lock().unwrap()[0] = old;
    run.at(400).await;
    assert_eq!(run.ask("old").await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn old_keys_go_on_judging_while_their_issuer_is_down() {
    let run = Run::start(&[old, down]);
    run.at(24 * 3600).await;
    assert_eq!(run.ask("old").await, Ok(true));
    assert_eq!(run.ask("new").await, Err(Unavailable), "nobody could say");
}

#[tokio::test(start_paused = true)]
async fn equal_keys_stay_the_same_ones() {
    let run = Run::start(&[old]);
    let before = run.source.keys_for(Some("old")).await.unwrap();
    let text = jwks(&[&SigningKey::ec("fixed")]);
    let parsed = || KeySet::parse(text.as_bytes());
    run.source.take(Ok(parsed().unwrap()), 0);
    let first = run.source.keys().unwrap();
    run.source.take(Ok(parsed().unwrap()), 0);
    assert!(Arc::ptr_eq(&first, &run.source.keys().unwrap()));
    assert!(!Arc::ptr_eq(&first, &before));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_made_up_keys_costs_a_fetch_in_30_s_and_no_honest_request() {
    let run = Run::start(&[old, old, old, new]);
    run.at(1).await;
    for tenth in 0..1200 {
        for flooding in 0..10 {
            let source = Arc::clone(&run.source);
            tokio::spawn(async move {
                let _ = source.keys_for(Some(&format!("{tenth}-{flooding}"))).await;
            });
        }
        assert!(run.ask("old").await.is_ok() || run.fetched().len() > 3);
        sleep_until(Instant::now() + Duration::from_millis(100)).await;
    }
    assert_eq!(run.fetched(), [0, 30, 60, 90, 120]);
    assert_eq!(run.ask("new").await, Ok(true), "a new key came through");
}
