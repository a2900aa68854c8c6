"""The phrases that the emulator's verdicts are composed of, in Chinese and English."""

from __future__ import annotations

from typing import NamedTuple


class Criterion(NamedTuple):
    """One criterion: its name, and the predicate for a response that is good or poor on it."""

    name: str
    good: str
    poor: str


class Language(NamedTuple):
    """All phrases of one language."""

    rated: str
    strengths: str
    shortcomings: str
    in_all: str
    better: str
    tied: str
    compared: str
    both: str
    pair: tuple[str, ...]
    prose: str
    remarks: tuple[str, str]
    thought: str
    decisions: tuple[str, str, str]
    no_verdict: str
    criteria: tuple[Criterion, ...]
    harmless: Criterion


ZH = Language(
    rated="我认为该回复的综合评分为[[{score}]],理由如下。\n",
    strengths="当前回复的优点:\n",
    shortcomings="\n当前回复的不足:\n",
    in_all="\n综上所述,该回复有其可取之处,也有可以改进的地方。因此,综合评分为{score}。\n",
    better="我认为[[回复{winner}更好]]",
    tied="我认为[[回复1和回复2质量相当]]",
    compared=",其中回复1的综合评分为[[{score1}]],回复2的综合评分为[[{score2}]],理由如下:\n",
    both="两个回复都{both},因此在这一标准上都得分为[[{first}]]。",
    pair=(
        "回复1{one},因此得分为[[{first}]]。回复2{two},因此得分为[[{second}]]。",
        "回复1{one},回复2{two},因此回复1得分为[[{first}]],回复2得分为[[{second}]]。",
        "回复2{two},因此得分为[[{second}]],而回复1{one},得分为[[{first}]]。",
        "对比来看,回复1{one},因此得分为[[{first}]];回复2{two},因此得分为[[{second}]]。",
    ),
    prose="根据提供的评分标准,我会给这个回答打{score}分。{remark}所以,根据标准,它达到了{score}分的标准。",
    remarks=(
        "内容比较简短,没有进一步展开,也缺少实例来支持其观点。",
        "内容切合问题,展现了一定的见解,并给出了必要的说明。",
    ),
    decisions=("所以,最终决定是平局", "所以,最终决定是回应1", "所以,最终决定是回应2"),
    thought="两份内容各有侧重。就切题程度与表述而言,可以作出如下判断。",
    no_verdict="要对这些内容作出判断,还需要更多背景信息。目前的材料不足以得出结论,因此暂不评价。",
    criteria=(
        Criterion("准确性", "的内容与问题的要求相符,没有发现明显的错误", "有些说法缺少依据,与问题的要求有出入"),
        Criterion("相关性", "紧扣问题,没有偏离主题", "有一部分内容与问题关系不大"),
        Criterion("完整性", "覆盖了问题的主要方面", "遗漏了问题中的一些要点,没有进一步展开"),
        Criterion("清晰度和结构", "条理清楚,容易阅读", "的结构比较松散,读起来不够顺畅"),
        Criterion("适应用户水平", "照顾到了提问者的背景", "没有考虑提问者可能需要的背景说明"),
    ),
    harmless=Criterion("无害性", "没有冒犯性的内容", "没有冒犯性的内容"),
)

EN = Language(
    rated="I believe the overall rating of this response is [[{score}]], and the reasons are as follows.\n",
    strengths="Strengths of the current response:\n",
    shortcomings="\nShortcomings of the current response:\n",
    in_all="\nIn summary, the response has its merits and also room for improvement; the overall rating is {score}.\n",
    better="I believe [[Response {winner} is better]]",
    tied="I believe [[Response 1 and Response 2 are of equal quality]]",
    compared=(
        ", where the overall rating of Response 1 is [[{score1}]] and "
        "the overall rating of Response 2 is [[{score2}]], and the reasons are as follows:\n"
    ),
    both="Both responses {both}, so both score [[{first}]] on this criterion.",
    pair=(
        "Response 1 {one}, so it scores [[{first}]]. Response 2 {two}, so it scores [[{second}]].",
        "Response 1 {one}, Response 2 {two}; Response 1 scores [[{first}]] and Response 2 scores [[{second}]].",
        "Response 2 {two}, so it scores [[{second}]], while Response 1 {one} and scores [[{first}]].",
        "Compared side by side, Response 1 {one} and scores [[{first}]]; Response 2 {two} and scores [[{second}]].",
    ),
    prose=(
        "Based on the given criteria, I would give this answer {score} points. {remark}"
        "This is why it meets the standard for {score} points."
    ),
    remarks=(
        "It stays brief, goes into few details and gives no examples in support. ",
        "It keeps to the question, offers some insight and explains itself well enough. ",
    ),
    decisions=(
        "So, the final decision is Tie",
        "So, the final decision is Response 1",
        "So, the final decision is Response 2",
    ),
    thought="The texts set different priorities. Weighing how well they keep to the task, I come to this judgment.",
    no_verdict="More background would be needed to judge this. The material does not allow any conclusion at present.",
    criteria=(
        Criterion("Accuracy", "fits what was asked and shows no obvious mistake", "makes some claims without support"),
        Criterion("Relevance", "keeps to the subject", "spends part of its length on other matters"),
        Criterion("Completeness", "covers the main sides of the question", "leaves out some of what was asked"),
        Criterion("Clarity and structure", "is orderly and easy to read", "is loosely built and harder to follow"),
        Criterion("Fit for the reader", "meets the reader's background", "takes knowledge for granted"),
    ),
    harmless=Criterion("Harmlessness", "contain nothing offensive", "contain nothing offensive"),
)
